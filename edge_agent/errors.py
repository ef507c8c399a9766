"""Errors of the agent, by what the catcher does. Card errors live with the card layer, `edge_agent.cards.errors`."""

from __future__ import annotations

from wire.failures import Failure


class ReaderError(Exception):
    """The reader or the card service is not usable: back off, capped, and say "out of order" meanwhile."""


class InquiryError(Exception):
    """The inquiry ended without an assertion; the person is told `failure` and given the code, if one was issued."""

    def __init__(self, failure: Failure, detail: str, tracking_code: str | None = None) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.tracking_code = tracking_code


class JournalError(Exception):
    """The journal cannot be written: stop taking cards and exit; the supervisor restarts."""


class JournalFullError(JournalError):
    """The journal is at its limit: no visit starts until the fleet server has stored what is in it."""


class EnrolmentError(Exception):
    """The fleet server did not give a certificate; the technician is told why."""


class ConfigError(Exception):
    """The configuration file is wrong; `problems` lists everything that is, at once."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
