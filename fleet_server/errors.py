"""Errors of the fleet server, by what the catcher does."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration is wrong: say everything that is, at once, and do not start."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RequestRefusedError(Exception):
    """What a technician or a terminal asked for is not allowed; tell them `reason`, never retry by machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CsrRefusedError(RequestRefusedError):
    """The certificate request breaks a rule of the fleet's CA (HTTP 400)."""


class CredentialRefusedError(RequestRefusedError):
    """Serial and code do not open anything. Deliberately says nothing more (HTTP 401)."""

    def __init__(self) -> None:
        super().__init__("serial or code refused")


class TooManyAttemptsError(RequestRefusedError):
    """Come back after `retry_after_s` seconds (HTTP 429)."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s


class LinkError(Exception):
    """The broker cannot be reached or dropped the connection: reconnect for ever, capped, with jitter."""
