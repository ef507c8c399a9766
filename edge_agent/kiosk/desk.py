"""What the web side (kiosk page and office API) needs of the station, and nothing else.

The station implements `Desk`; the web side only reads screens and passes wishes on. All of it happens on the agent's
one event loop. Nothing here is stored: a `Screen` is what may be seen at the counter at this moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from wire.failures import Failure
from wire.messages import ReaderState


class Step(StrEnum):
    """What the screen shows, in the order of a visit."""

    BLOCKED = "blocked"
    """No visit may start; `Screen.reasons` says why."""
    READY = "ready"
    """No visit, and one may start."""
    WAITING_FOR_CARD = "waiting_for_card"
    READING = "reading"
    """Reading and passive authentication."""
    PROVING = "proving"
    """The chip signs the challenge."""
    ASKING_REGISTRY = "asking_registry"
    DONE = "done"
    """The assertion is verified and committed; stays until the card leaves or a new visit starts."""
    FAILED = "failed"
    """The visit ended without an assertion; stays as DONE does."""


BUSY_STEPS = frozenset({Step.WAITING_FOR_CARD, Step.READING, Step.PROVING, Step.ASKING_REGISTRY})
"""The steps in which a visit is under way: it can be cancelled, and no other one can start."""


class VisitState(StrEnum):
    """Where a visit stands, as the office software is told."""

    WAITING = "waiting"
    """Accepted; no card has been read yet."""
    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Screen:
    """One moment at the counter."""

    step: Step
    since_ms: int
    """When this step began: milliseconds since 1970 UTC."""
    reader: ReaderState = ReaderState.EMPTY
    failure: Failure = Failure.NONE
    """FAILED: why. BLOCKED: the first of `reasons`."""
    reasons: tuple[Failure, ...] = ()
    """Everything that stands in the way of the next visit; on the page while BLOCKED, to the office at any time."""
    visit: str | None = None
    service: str | None = None
    """Id of the service that the visit is for; the page knows its title."""
    act_reference: str | None = None
    min_loa: int | None = None
    loa: int | None = None
    """DONE: the level that the registry attested."""
    tracking_code: str | None = None
    """Canonical form, ``XXXX-XXXX-XXXX-XXXX``. DONE always, FAILED when the registry or NIX gave one."""
    holder_name: str | None = None
    """Only after passive authentication succeeded, and gone when the card leaves."""
    progress_pct: int | None = None
    """0 to 100 within READING; None when it is not known."""
    assertion: bytes | None = None
    """DONE: the token, shown as a QR code."""
    visits_today: int = 0
    """Assertions given since midnight in Tehran."""


@dataclass(frozen=True, slots=True)
class VisitRequest:
    """What an office asks for. The web side has checked lengths, the service and the level before it gets here."""

    audience: str
    office: str
    office_class: str
    service: str
    legal_basis: str
    act_reference: str
    min_loa: int
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """The inputs of `wire.inquiry.transaction_hash`: with these the relying party recomputes the assertion's `txh`."""

    service: str
    audience: str
    act_reference: str
    salt: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class VisitView:
    """One visit as its own office may see it. `assertion`, `loa` and `transaction` are there when it is done."""

    id: str
    state: VisitState
    failure: Failure = Failure.NONE
    loa: int | None = None
    tracking_code: str | None = None
    assertion: bytes | None = None
    transaction: Transaction | None = None


class VisitRefusedError(Exception):
    """No visit was started; the caller is told `failure`.

    `BUSY` becomes 409, a reason why no visit may start (codes 40 to 59) 503, everything else 422.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


class Desk(Protocol):
    """The station, as the counter sees it."""

    def screen(self) -> Screen:
        """What is shown now."""

    def screens(self) -> AsyncIterator[Screen]:
        """The current screen, then each change. A slow reader gets the newest and may miss ones between."""

    async def request(self, request: VisitRequest) -> VisitView:
        """Start a visit. The same `audience` and `idempotency_key` again gives the visit that the first one started.

        Raises:
            VisitRefusedError: another visit is under way, no visit may start, or the key was used for another request.
        """

    async def view(self, visit: str, *, audience: str, wait_s: float) -> VisitView | None:
        """The visit, at once when it is over, else when it is over or `wait_s` has passed.

        None: not a visit of `audience`, whoever else's it may be.
        """

    async def cancel(self, visit: str, *, audience: str | None) -> VisitView | None:
        """End a visit that is under way as `VISIT_CANCELLED`; one that is over stays as it is.

        `audience` None is the officer at the counter, who may end any. None as answer: as for `view`.
        """
