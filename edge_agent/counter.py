"""The counter: takes wishes for visits, serves them one at a time, shows each state, and commits before it shows.

Implements `edge_agent.kiosk.desk.Desk`. *Within* a visit is `edge_agent.station`; here is what happens around it: may
one start, which card is it for, how did it end, who is told.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from edge_agent import book
from edge_agent.cards.errors import CardError, CardInUseError, CardMuteError
from edge_agent.clock import ClockNotTrustedError, TrustedClock
from edge_agent.errors import InquiryError, JournalFullError, ReaderError
from edge_agent.journal import Journal, OpenedVisit
from edge_agent.kiosk.desk import (
    Screen,
    Step,
    VisitRefusedError,
    VisitRequest,
    VisitState,
    VisitView,
)
from edge_agent.pcsc import CardPresent, Readers
from edge_agent.shown import Shown
from edge_agent.station import Asked, Asserted
from wire.failures import Failure
from wire.messages import ReaderState

_log = structlog.get_logger()

SHOWN_AFTER_MS: Final = {Step.DONE: 120_000, Step.FAILED: 20_000}
"""How long the end of a visit stays on the screen at least; while its card is in the reader, it stays."""
TEHRAN_OFFSET_MS: Final = int(3.5 * 3600 * 1000)
_DAY_MS: Final = 24 * 3600 * 1000
_TRY_AGAIN: Final = frozenset({Failure.CARD_GONE, Failure.CARD_MUTE, Failure.CARD_READ_ERROR, Failure.CARD_IN_USE})
"""The person may put the card in again; every other failure ends the visit."""

Serve = Callable[..., Awaitable[Asserted]]
"""`edge_agent.station.serve_card` with its doors bound: ``serve(asked, transmit, atr, show=…)``."""


@dataclass(frozen=True, slots=True)
class CounterLimits:
    """`timeout_s` is how long a visit waits for cards, `card_s` how long one card may keep it busy."""

    timeout_s: float
    card_s: float
    insertions_max: int


@dataclass(slots=True)
class _Visit:
    """The one visit under way."""

    asked: Asked
    started_ms: int
    insertions: int = 0
    cancelled: bool = False
    tracking_code: str | None = None
    """The last one that was given for this visit, whatever became of its card."""
    attempt: asyncio.Task[Asserted] | None = None
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def cancel(self) -> None:
        """End it as cancelled, whether its attempt has begun or not."""
        self.cancelled = True
        if self.attempt is not None:
            self.attempt.cancel()


class Counter:
    """`readers` and `journal` are open doors. `serve` is the visit; `chance(n)` gives n random bytes."""

    def __init__(
        self,
        *,
        readers: Readers,
        journal: Journal,
        clock: TrustedClock,
        serve: Serve,
        trust_list_loaded: bool,
        limits: CounterLimits,
        chance: Callable[[int], bytes],
    ) -> None:
        self._readers = readers
        self._journal = journal
        self._clock = clock
        self._serve = serve
        self._trust_list_loaded = trust_list_loaded
        self._limits = limits
        self._chance = chance
        self._visit: _Visit | None = None
        self._card: CardPresent | None = None
        self._wished = asyncio.Event()
        self._journal_full = False
        unknown = Failure.CLOCK_NOT_TRUSTED
        self._shown = Shown(Screen(Step.BLOCKED, 0, reasons=(unknown,), failure=unknown))

    def screen(self) -> Screen:
        return self._shown.now

    def screens(self) -> AsyncIterator[Screen]:
        return self._shown.each()

    async def request(self, request: VisitRequest) -> VisitView:
        asked = book.encode_request(request)
        visit = self._chance(16).hex()
        if request.idempotency_key is not None:
            earlier = await self._journal.visit_by_key(request.audience, request.idempotency_key)
            if earlier is not None:
                return self._repeated(earlier, asked)
        await self._refresh()
        if self._visit is not None:
            raise VisitRefusedError(Failure.BUSY)
        reasons = self.blocked()
        if reasons:
            raise VisitRefusedError(reasons[0])
        began = _Visit(book.asked(visit, request), self._clock.now_ms())
        self._visit = began
        try:
            opened = await self._journal.open_visit(
                visit, request.audience, request.idempotency_key, began.started_ms, asked
            )
        except BaseException:
            self._visit = None
            raise
        if opened.visit != visit:
            self._visit = None
            return self._repeated(opened, asked)
        self._show_visit(began, Step.WAITING_FOR_CARD)
        self._wished.set()
        return VisitView(visit, VisitState.WAITING)

    async def view(self, visit: str, *, audience: str, wait_s: float) -> VisitView | None:
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    changed = self._shown.next_change()
                    view = await self._view(visit, audience)
                    if view is None or view.state in (VisitState.DONE, VisitState.FAILED):
                        return view
                    await changed.wait()
        except TimeoutError:
            return await self._view(visit, audience)

    async def cancel(self, visit: str, *, audience: str | None) -> VisitView | None:
        under_way = self._visit
        if under_way is not None and under_way.asked.visit == visit and audience in (None, under_way.asked.audience):
            under_way.cancel()
            await under_way.ended.wait()
        return await self._view(visit, audience)

    async def run(self) -> None:
        """Serve visits until cancelled. The caller has had the interrupted ones ended first (`end_interrupted`).

        Raises:
            JournalError: nothing can be written any more; the process must end.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_readers())
            group.create_task(self._watch_the_rest())
            group.create_task(self._serve_visits())

    async def end_interrupted(self) -> None:
        """Write an end under every visit that the last run of the agent left open."""
        for opened in await self._journal.unended_visits():
            asked = book.decode_request(opened)
            _log.warning("visit_was_interrupted")
            await self._commit_end(asked, opened.opened_ms, Failure.VISIT_INTERRUPTED, None, None)

    def blocked(self) -> list[Failure]:
        """Every reason why no visit may start just now."""
        reasons = []
        if not self._clock.trusted:
            reasons.append(Failure.CLOCK_NOT_TRUSTED)
        if self._journal_full:
            reasons.append(Failure.JOURNAL_FULL)
        if not self._trust_list_loaded:
            reasons.append(Failure.TRUST_LIST_MISSING)
        match self._readers.state:
            case ReaderState.NO_SERVICE:
                reasons.append(Failure.CARD_SERVICE_DOWN)
            case ReaderState.NO_READER:
                reasons.append(Failure.READER_ABSENT)
            case _:
                pass
        return reasons

    async def _watch_readers(self) -> None:
        async for _state in self._readers.changes():
            await self._refresh()

    async def _watch_the_rest(self) -> None:
        """Clock and journal have no event to wait for."""
        while True:
            await self._refresh()
            await asyncio.sleep(1.0)

    async def _refresh(self) -> None:
        """Bring an idle screen in step with what is possible."""
        try:
            await self._journal.check_room()
            self._journal_full = False
        except JournalFullError:
            self._journal_full = True
        visits_today = await self._visits_today()
        # no await from here on: a visit that begins meanwhile must not lose its screen to an idle one
        reasons = tuple(self.blocked())
        if self._visit is None and self._shown.now.step in (Step.DONE, Step.FAILED):
            self._let_go()
        if self._visit is None and self._shown.now.step in (Step.BLOCKED, Step.READY):
            step = Step.BLOCKED if reasons else Step.READY
            self._shown.show(
                Screen(
                    step,
                    self._clock.about_ms(),
                    reader=self._readers.state,
                    reasons=reasons,
                    failure=reasons[0] if reasons else Failure.NONE,
                    visits_today=visits_today,
                )
            )
        else:
            self._shown.show(dataclasses.replace(self._shown.now, reader=self._readers.state, reasons=reasons))
            self._hide_the_absent()

    def _hide_the_absent(self) -> None:
        """A holder's name is shown only while the very card that it was read from is in the reader."""
        if self._shown.now.holder_name is not None and self._card not in self._readers.cards:
            self._shown.show(dataclasses.replace(self._shown.now, holder_name=None))

    def _let_go(self) -> None:
        """Take the result off when it has been seen long enough and its card is out."""
        shown_ms = self._clock.about_ms() - self._shown.now.since_ms
        if self._card not in self._readers.cards and shown_ms > SHOWN_AFTER_MS[self._shown.now.step]:
            self._shown.show(Screen(Step.READY, self._clock.about_ms(), reader=self._readers.state))

    async def _serve_visits(self) -> None:
        while True:
            await self._wished.wait()
            self._wished.clear()
            if self._visit is not None:
                await self._serve_visit(self._visit)

    async def _serve_visit(self, visit: _Visit) -> None:
        """From the wish to the committed end. Whatever happens in between, the end is written before it is shown."""
        failure, asserted, stopping = Failure.NONE, None, False
        visit.attempt = asyncio.create_task(self._until_asserted(visit))
        if visit.cancelled:
            visit.attempt.cancel()
        try:
            asserted = await visit.attempt
        except TimeoutError:
            failure = Failure.VISIT_TIMED_OUT
        except CardError as exc:
            failure = exc.failure
        except InquiryError as exc:
            failure = exc.failure
            visit.tracking_code = exc.tracking_code or visit.tracking_code
        except ClockNotTrustedError:
            failure = Failure.CLOCK_NOT_TRUSTED
        except asyncio.CancelledError:
            stopping = _is_being_cancelled()
            failure = Failure.VISIT_INTERRUPTED if stopping else Failure.VISIT_CANCELLED
        await asyncio.shield(self._end(visit, failure, asserted))
        if stopping:
            raise asyncio.CancelledError

    async def _end(self, visit: _Visit, failure: Failure, asserted: Asserted | None) -> None:
        """Commit, then show, then let the next one in."""
        code = asserted.tracking_code if asserted else visit.tracking_code
        await self._commit_end(visit.asked, visit.started_ms, failure, asserted, code)
        visits_today = await self._visits_today()
        self._visit = None
        self._shown.show(
            dataclasses.replace(
                self._shown.now,
                step=Step.DONE if asserted else Step.FAILED,
                since_ms=self._clock.about_ms(),
                failure=failure,
                loa=asserted.loa if asserted else None,
                assertion=asserted.token if asserted else None,
                tracking_code=code,
                holder_name=self._shown.now.holder_name if asserted else None,
                visits_today=visits_today,
            )
        )
        waited = {"card_ms": asserted.card_ms, "registry_ms": asserted.registry_ms} if asserted else {}
        _log.info("visit_ended", outcome=failure.name, insertions=visit.insertions, **waited)
        visit.ended.set()

    async def _until_asserted(self, visit: _Visit) -> Asserted:
        """Card after card, until one gives an assertion or the visit's limits are reached."""
        deadline = asyncio.get_running_loop().time() + self._limits.timeout_s
        while True:
            async with asyncio.timeout_at(deadline):
                card = await self._readers.next_card()
            visit.insertions += 1
            self._card = card
            try:
                return await self._serve_one(visit, card)
            except CardError as exc:
                if exc.failure not in _TRY_AGAIN or visit.insertions >= self._limits.insertions_max:
                    raise
                _log.info("card_trouble_in_visit", failure=exc.failure.name)
                self._show_visit(visit, Step.WAITING_FOR_CARD, exc.failure)

    async def _serve_one(self, visit: _Visit, card: CardPresent) -> Asserted:
        """One card, for a limited time.

        Raises:
            CardError, InquiryError, ClockNotTrustedError: as the visit; a card that takes too long counts as mute.
        """
        try:
            async with asyncio.timeout(self._limits.card_s), self._readers.connect(card) as connection:
                return await self._serve(visit.asked, connection.transmit, card.atr, show=self._show_step)
        except TimeoutError as exc:
            raise CardMuteError("one card kept the visit for too long") from exc
        except ReaderError as exc:
            raise CardInUseError(str(exc)) from exc

    async def _commit_end(
        self, asked: Asked, started_ms: int, failure: Failure, asserted: Asserted | None, tracking_code: str | None
    ) -> None:
        # an interrupted visit is ended before the clock is known: then it is dated by its beginning
        now_ms = max(self._clock.about_ms(), started_ms)
        result = book.encode_result(failure, asserted, tracking_code)
        await self._journal.end_visit(
            asked.visit,
            now_ms,
            result,
            service=asked.service,
            outcome=failure,
            loa=asserted.loa if asserted else 0,
            took_ms=now_ms - started_ms,
        )

    def _show_visit(self, visit: _Visit, step: Step, failure: Failure = Failure.NONE) -> None:
        """A fresh screen for `visit`: nothing of an earlier card stays on it."""
        self._shown.show(
            Screen(
                step,
                self._clock.about_ms(),
                reader=self._readers.state,
                failure=failure,
                visit=visit.asked.visit,
                service=visit.asked.service,
                act_reference=visit.asked.act_reference,
                min_loa=visit.asked.min_loa,
                visits_today=self._shown.now.visits_today,
            )
        )

    def _show_step(self, step: Step, **known: Any) -> None:
        if self._visit is not None and known.get("tracking_code"):
            self._visit.tracking_code = known["tracking_code"]
        since_ms = self._shown.now.since_ms if step is self._shown.now.step else self._clock.about_ms()
        known.setdefault("progress_pct", None)
        self._shown.show(
            dataclasses.replace(self._shown.now, step=step, since_ms=since_ms, failure=Failure.NONE, **known)
        )
        self._hide_the_absent()

    async def _view(self, visit: str, audience: str | None) -> VisitView | None:
        opened = await self._journal.visit(visit)
        if opened is None or audience not in (None, opened.audience):
            return None
        return self._as_view(opened)

    def _as_view(self, opened: OpenedVisit) -> VisitView:
        if opened.result is not None:
            return book.decode_result(opened)
        busy = self._visit is not None and self._shown.now.step not in (Step.WAITING_FOR_CARD, Step.READY, Step.BLOCKED)
        return VisitView(opened.visit, VisitState.ACTIVE if busy else VisitState.WAITING)

    def _repeated(self, opened: OpenedVisit, request: bytes) -> VisitView:
        if opened.request != request:
            raise VisitRefusedError(Failure.REQUEST_REFUSED)
        return self._as_view(opened)

    async def _visits_today(self) -> int:
        now_ms = self._clock.about_ms()
        midnight_ms = now_ms - (now_ms + TEHRAN_OFFSET_MS) % _DAY_MS
        return await self._journal.visits_done_since(midnight_ms)


def _is_being_cancelled() -> bool:
    """Whether the running task itself was cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
