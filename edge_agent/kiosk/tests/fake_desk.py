"""A desk for the tests of the web side and for looking at the page: it shows what it is given."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

from edge_agent.kiosk.config import KioskConfig, Office, Service
from edge_agent.kiosk.desk import (
    BUSY_STEPS,
    Screen,
    Step,
    Transaction,
    VisitRefusedError,
    VisitRequest,
    VisitState,
    VisitView,
)
from wire.failures import Failure
from wire.messages import ReaderState

NOW_MS = 1_763_800_000_000
TRACKING_CODE = "7KQ2-M4XW-9TRC-H3VD"
NOTARY_TOKEN = "notary-token"
BANK_TOKEN = "bank-token"
HOLDER = "مریم احمدی نژاد"

NOTARY = Office(
    name="دفتر اسناد رسمی ۴۱۷ تهران",
    audience="10380284790/0417",
    office_class="notary",
    token_sha256=hashlib.sha256(NOTARY_TOKEN.encode()).digest(),
    services=(
        Service("notary.deed", "تنظیم سند رسمی", "Notarial deed", 2, "003/5"),
        Service("notary.copy", "گواهی امضا", "Signature certification", 1, "003/5"),
    ),
)
BANK = Office(
    name="شعبهٔ بانک",
    audience="10100000001/0001",
    office_class="bank",
    token_sha256=hashlib.sha256(BANK_TOKEN.encode()).digest(),
    services=(Service("bank.account", "گشایش حساب", "Open an account", 2, "003/5"),),
)
CONFIG = KioskConfig(terminal="thr-0417-01", offices=(NOTARY, BANK), port=0)

_VISIT = Screen(
    Step.READY, NOW_MS, ReaderState.CARD_PRESENT, visit="v1", service="notary.deed", act_reference="1404/8812-ب",
    min_loa=2, visits_today=27,
)  # fmt: skip
TOKEN = bytes(range(256)) * 2


def every_screen() -> dict[str, Screen]:
    """Every state that the counter can see, by a name for its picture."""
    screens = {
        "ready": Screen(Step.READY, NOW_MS, visits_today=27),
        "waiting": replace(_VISIT, step=Step.WAITING_FOR_CARD, reader=ReaderState.EMPTY),
        "again_gone": replace(_VISIT, step=Step.WAITING_FOR_CARD, failure=Failure.CARD_GONE),
        "again_mute": replace(_VISIT, step=Step.WAITING_FOR_CARD, failure=Failure.CARD_MUTE),
        "reading": replace(_VISIT, step=Step.READING, progress_pct=62),
        "reading_named": replace(_VISIT, step=Step.READING, progress_pct=96, holder_name=HOLDER),
        "proving": replace(_VISIT, step=Step.PROVING, holder_name=HOLDER),
        "asking": replace(_VISIT, step=Step.ASKING_REGISTRY, holder_name=HOLDER),
        "done": replace(
            _VISIT, step=Step.DONE, loa=2, tracking_code=TRACKING_CODE, holder_name=HOLDER, assertion=TOKEN
        ),
        "done_card_gone": replace(
            _VISIT, step=Step.DONE, reader=ReaderState.EMPTY, loa=2, tracking_code=TRACKING_CODE, assertion=TOKEN
        ),
        "blocked_all": Screen(
            Step.BLOCKED, NOW_MS, ReaderState.NO_READER, failure=Failure.READER_ABSENT,
            reasons=(Failure.READER_ABSENT, Failure.CLOCK_NOT_TRUSTED, Failure.JOURNAL_FULL), visits_today=27,
        ),
    }  # fmt: skip
    for failure in Failure:
        if 10 <= failure < 40:
            coded = failure in {Failure.REGISTRY_REFUSED, Failure.NOT_PERMITTED, Failure.CARD_NOT_VALID_ANY_MORE}
            screens[f"failed_{failure.name.lower()}"] = replace(
                _VISIT, step=Step.FAILED, failure=failure, tracking_code=TRACKING_CODE if coded else None
            )
        elif 40 <= failure < 60:
            screens[f"blocked_{failure.name.lower()}"] = Screen(
                Step.BLOCKED, NOW_MS, failure=failure, reasons=(failure,), visits_today=27
            )
    return screens


class FakeDesk:
    """Keeps visits in memory; `show` changes the screen."""

    def __init__(self, screen: Screen | None = None) -> None:
        self.current = screen or Screen(Step.READY, NOW_MS)
        self.requests: list[VisitRequest] = []
        self.visits: dict[str, tuple[str, VisitView]] = {}
        self.waits: list[float] = []
        self.readers = 0
        self.patient = False
        """Whether `view` really waits."""
        self.looked_at = asyncio.Event()
        self._changed = asyncio.Condition()

    async def show(self, screen: Screen) -> None:
        self.current = screen
        async with self._changed:
            self._changed.notify_all()

    def screen(self) -> Screen:
        return self.current

    async def screens(self) -> AsyncIterator[Screen]:
        self.readers += 1
        try:
            shown = self.current
            yield shown
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self.current is not shown)  # noqa: B023 awaited before it changes
                shown = self.current
                yield shown
        finally:
            self.readers -= 1

    async def request(self, request: VisitRequest) -> VisitView:
        if self.current.step is Step.BLOCKED:
            raise VisitRefusedError(self.current.failure)
        if self.current.step in BUSY_STEPS:
            raise VisitRefusedError(Failure.BUSY)
        self.requests.append(request)
        view = VisitView(f"v{len(self.requests)}", VisitState.WAITING)
        self.visits[view.id] = (request.audience, view)
        await self.show(
            Screen(
                Step.WAITING_FOR_CARD, NOW_MS, visit=view.id, service=request.service,
                act_reference=request.act_reference, min_loa=request.min_loa,
            )
        )  # fmt: skip
        return view

    async def view(self, visit: str, *, audience: str, wait_s: float) -> VisitView | None:
        self.waits.append(wait_s)
        self.looked_at.set()
        if self.patient and wait_s:
            await asyncio.sleep(wait_s)
        owner, view = self.visits.get(visit, ("", None))
        return view if owner == audience else None

    async def cancel(self, visit: str, *, audience: str | None) -> VisitView | None:
        owner, view = self.visits.get(visit, ("", None))
        if view is None or audience not in {None, owner}:
            return None
        view = replace(view, state=VisitState.FAILED, failure=Failure.VISIT_CANCELLED)
        self.visits[visit] = (owner, view)
        await self.show(Screen(Step.FAILED, NOW_MS, failure=Failure.VISIT_CANCELLED, visit=visit))
        return view

    def finish(self, visit: str) -> VisitView:
        """As the station would: the visit gave an assertion."""
        owner, _ = self.visits[visit]
        view = VisitView(
            visit, VisitState.DONE, loa=2, tracking_code=TRACKING_CODE, assertion=TOKEN,
            transaction=Transaction("notary.deed", owner, "1404/8812", bytes(16), NOW_MS),
        )  # fmt: skip
        self.visits[visit] = (owner, view)
        return view
