"""The counter: one visit at a time, its end committed before it is shown, its failures told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from edge_agent.cards.errors import CardError, CardGoneError, CardNotGenuineError, CardUnsupportedError
from edge_agent.clock import TrustedClock
from edge_agent.counter import Counter, CounterLimits
from edge_agent.errors import InquiryError
from edge_agent.journal import Journal, JournalLimits
from edge_agent.kiosk.desk import Screen, Step, Transaction, VisitRefusedError, VisitRequest, VisitState
from edge_agent.pcsc import Readers
from edge_agent.station import Asked, Asserted
from wire import fields
from wire.failures import Failure
from wire.messages import Fact, FactKind, ReaderState

REQUEST = VisitRequest("10380284790/0417", "office", "notary", "notary.identity", "basis", "1405/1", 2)
CODE = "2345-6789-ABCD-EFGH"
TOKEN = b"token"
T = 1_800_000_000_000


@dataclass(frozen=True)
class FakeCard:
    reader: str = "reader"
    atr: bytes = b"\x3b"
    insertion: int = 1


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@dataclass
class FakeReaders:
    """The part of `Readers` that the counter uses, with cards that a test puts in and takes out."""

    state: ReaderState = ReaderState.EMPTY
    cards: tuple[FakeCard, ...] = ()
    inserted: asyncio.Queue[FakeCard] = field(default_factory=asyncio.Queue)
    insertions: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def insert(self) -> None:
        self.insertions += 1
        card = FakeCard(insertion=self.insertions)
        self.cards, self.state = (card,), ReaderState.CARD_PRESENT
        self.inserted.put_nowait(card)
        self.changed.set()

    def pull(self) -> None:
        self.cards, self.state = (), ReaderState.EMPTY
        self.changed.set()

    async def next_card(self) -> FakeCard:
        return await self.inserted.get()

    async def changes(self) -> AsyncIterator[ReaderState]:
        while True:
            yield self.state
            await self.changed.wait()
            self.changed.clear()

    @asynccontextmanager
    async def connect(self, card: FakeCard) -> AsyncIterator[Any]:
        yield self

    async def transmit(self, command: bytes) -> bytes:
        raise AssertionError("the fake visit sends nothing")


@dataclass
class FakeVisit:
    """What `station.serve_card` does, told by the test: an exception per card, then an assertion."""

    ends: list[Exception] = field(default_factory=list)
    served: int = 0
    registry: asyncio.Event | None = None
    """With it, the registry answers only when the test says so."""

    async def __call__(self, asked: Asked, transmit: Any, atr: bytes, *, show: Callable[..., None]) -> Asserted:
        self.served += 1
        show(Step.READING, progress_pct=50)
        show(Step.ASKING_REGISTRY, holder_name="holder", tracking_code=CODE)
        if self.registry is not None:
            await self.registry.wait()
        if self.ends:
            raise self.ends.pop(0)
        return Asserted(TOKEN, 2, CODE, Transaction(asked.service, asked.audience, asked.act_reference, b"s" * 16, 5))


@dataclass
class Counters:
    counter: Counter
    journal: Journal
    readers: FakeReaders
    visit: FakeVisit
    ticks: Ticks

    async def facts(self) -> list[Fact]:
        return [fields.decode(body, Fact) for _, body in await self.journal.unsent(0, 100)]

    async def ended(self, visit: str) -> Any:
        return await self.counter.view(visit, audience=REQUEST.audience, wait_s=5)


def chance() -> Callable[[int], bytes]:
    drawn = iter(range(1, 1000))
    return lambda size: next(drawn).to_bytes(size)


def make(
    journal: Journal, visit: FakeVisit, *, timeout_s: float = 5.0, card_s: float = 5.0, trust_list: bool = True
) -> Counters:
    readers = FakeReaders()
    ticks = Ticks()
    clock = TrustedClock(ticks)
    clock.learn(T)
    counter = Counter(
        readers=cast(Readers, readers),
        journal=journal,
        clock=clock,
        serve=visit,
        trust_list_loaded=trust_list,
        limits=CounterLimits(timeout_s=timeout_s, card_s=card_s, insertions_max=3),
        chance=chance(),
    )
    return Counters(counter, journal, readers, visit, ticks)


@asynccontextmanager
async def running(counters: Counters) -> AsyncIterator[Counters]:
    task = asyncio.create_task(counters.counter.run())
    try:
        yield counters
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.db", JournalLimits()) as journal:
        yield journal


async def test_a_visit_gives_its_office_the_assertion_and_the_fleet_a_fact_without_it(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        done = await at.ended(view.id)
        assert (done.state, done.assertion, done.loa, done.tracking_code) == (VisitState.DONE, TOKEN, 2, CODE)
        assert done.transaction.salt == b"s" * 16
        (fact,) = await at.facts()
        assert (fact.kind, fact.outcome, fact.loa, fact.service) == (
            FactKind.VISIT_ENDED,
            Failure.NONE,
            2,
            "notary.identity",
        )
        body = fields.encode(fact)
        assert TOKEN not in body
        assert CODE.encode() not in body
        assert REQUEST.act_reference.encode() not in body


async def test_nothing_is_shown_as_done_before_it_is_in_the_journal(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        async for screen in at.counter.screens():
            if screen.step is Step.DONE:
                break
            opened = await journal.visit(view.id)
            assert opened is not None
        opened = await journal.visit(view.id)
        assert opened is not None
        assert opened.result is not None


@pytest.mark.parametrize("error", [CardGoneError(), CardError()])
async def test_a_card_that_left_may_be_put_in_again_within_the_same_visit(journal: Journal, error: Exception) -> None:
    async with running(make(journal, FakeVisit([error]))) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        await shown(at.counter, lambda screen: screen.step is Step.WAITING_FOR_CARD and screen.failure != 0)
        assert at.counter.screen().holder_name is None
        at.readers.insert()
        assert (await at.ended(view.id)).state is VisitState.DONE
        assert len(await at.facts()) == 1


async def shown(counter: Counter, wanted: Callable[[Screen], bool]) -> None:
    async for screen in counter.screens():
        if wanted(screen):
            return


async def test_the_third_removal_ends_the_visit_as_card_gone_and_never_as_a_wrong_pin(journal: Journal) -> None:
    async with running(make(journal, FakeVisit([CardGoneError()] * 3))) as at:
        view = await at.counter.request(REQUEST)
        for _ in range(3):
            at.readers.insert()
        failed = await at.ended(view.id)
        assert (failed.state, failed.failure, failed.assertion) == (VisitState.FAILED, Failure.CARD_GONE, None)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (CardUnsupportedError(), Failure.CARD_UNSUPPORTED),
        (CardNotGenuineError(), Failure.CARD_NOT_GENUINE),
        (InquiryError(Failure.REGISTRY_UNREACHABLE, "away", CODE), Failure.REGISTRY_UNREACHABLE),
        (InquiryError(Failure.NOT_PERMITTED, "no decision", CODE), Failure.NOT_PERMITTED),
    ],
)
@pytest.mark.requirement("B5")
async def test_each_failure_ends_the_visit_under_its_own_name_with_the_code(
    journal: Journal, error: Exception, failure: Failure
) -> None:
    async with running(make(journal, FakeVisit([error]))) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        failed = await at.ended(view.id)
        assert (failed.failure, failed.tracking_code) == (failure, CODE)
        await shown(at.counter, lambda screen: screen.step is Step.FAILED)
        assert at.counter.screen().holder_name is None
        assert [fact.outcome for fact in await at.facts()] == [failure]


async def test_no_card_in_time_ends_the_visit_as_timed_out(journal: Journal) -> None:
    async with running(make(journal, FakeVisit(), timeout_s=0.01)) as at:
        view = await at.counter.request(REQUEST)
        assert (await at.ended(view.id)).failure is Failure.VISIT_TIMED_OUT


async def test_a_second_office_is_told_that_a_visit_is_under_way(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        await at.counter.request(REQUEST)
        with pytest.raises(VisitRefusedError) as refused:
            await at.counter.request(REQUEST)
        assert refused.value.failure is Failure.BUSY


async def test_a_repeated_key_gives_the_first_visit_and_another_request_under_it_is_refused(journal: Journal) -> None:
    keyed = VisitRequest(**{**as_dict(REQUEST), "idempotency_key": "k1"})
    async with running(make(journal, FakeVisit())) as at:
        first = await at.counter.request(keyed)
        assert (await at.counter.request(keyed)).id == first.id
        with pytest.raises(VisitRefusedError) as refused:
            await at.counter.request(VisitRequest(**{**as_dict(keyed), "act_reference": "other"}))
        assert refused.value.failure is Failure.REQUEST_REFUSED


def as_dict(request: VisitRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in VisitRequest.__slots__}


async def test_a_cancelled_visit_ends_as_cancelled_and_the_next_one_can_start(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        view = await at.counter.request(REQUEST)
        cancelled = await at.counter.cancel(view.id, audience=REQUEST.audience)
        assert cancelled is not None
        assert (cancelled.state, cancelled.failure) == (VisitState.FAILED, Failure.VISIT_CANCELLED)
        assert (await at.counter.request(REQUEST)).state is VisitState.WAITING


async def test_another_office_can_neither_see_nor_cancel_a_visit(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        view = await at.counter.request(REQUEST)
        assert await at.counter.view(view.id, audience="other", wait_s=0) is None
        assert await at.counter.cancel(view.id, audience="other") is None
        assert (await at.counter.view(view.id, audience=REQUEST.audience, wait_s=0)) is not None


async def test_without_trusted_time_or_trust_list_or_reader_no_visit_starts_and_every_reason_is_named(
    journal: Journal,
) -> None:
    at = make(journal, FakeVisit(), trust_list=False)
    at.readers.state = ReaderState.NO_READER
    at.ticks.s += 25 * 3600
    async with running(at):
        with pytest.raises(VisitRefusedError):
            await at.counter.request(REQUEST)
        assert at.counter.blocked() == [
            Failure.CLOCK_NOT_TRUSTED,
            Failure.TRUST_LIST_MISSING,
            Failure.READER_ABSENT,
        ]
        assert at.counter.screen().step is Step.BLOCKED
        assert await at.facts() == []


async def test_a_full_journal_stops_new_visits_and_says_so(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j.db", JournalLimits(max_facts=1)) as journal:
        await journal.append(FactKind.AGENT_STARTED, 1, agent="x")
        async with running(make(journal, FakeVisit())) as at:
            with pytest.raises(VisitRefusedError) as refused:
                await at.counter.request(REQUEST)
            assert refused.value.failure is Failure.JOURNAL_FULL
            assert at.counter.screen().reasons == (Failure.JOURNAL_FULL,)


async def test_a_visit_that_a_crash_cut_off_is_ended_as_interrupted_at_the_next_start(journal: Journal) -> None:
    before = make(journal, FakeVisit())
    view = await before.counter.request(REQUEST)
    after = make(journal, FakeVisit())
    await after.counter.end_interrupted()
    ended = await after.counter.view(view.id, audience=REQUEST.audience, wait_s=0)
    assert ended is not None
    assert (ended.state, ended.failure) == (VisitState.FAILED, Failure.VISIT_INTERRUPTED)
    assert [fact.outcome for fact in await after.facts()] == [Failure.VISIT_INTERRUPTED]


async def test_the_holders_name_goes_with_the_card_while_the_registry_still_thinks(journal: Journal) -> None:
    async with running(make(journal, FakeVisit(registry=asyncio.Event()))) as at:
        await at.counter.request(REQUEST)
        at.readers.insert()
        await shown(at.counter, lambda screen: screen.holder_name is not None)
        at.readers.pull()
        await shown(at.counter, lambda screen: screen.holder_name is None)
        assert at.counter.screen().step is Step.ASKING_REGISTRY


async def test_a_quick_swap_of_cards_after_the_result_takes_the_first_holders_name_away(journal: Journal) -> None:
    async with running(make(journal, FakeVisit())) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        await at.ended(view.id)
        await shown(at.counter, lambda screen: screen.step is Step.DONE)
        assert at.counter.screen().holder_name is not None
        at.readers.insert()
        await shown(at.counter, lambda screen: screen.holder_name is None)
        assert at.counter.screen().step is Step.DONE


@pytest.mark.requirement("B5")
async def test_a_code_that_was_given_stays_with_the_visit_when_its_card_does_not_come_back(journal: Journal) -> None:
    async with running(make(journal, FakeVisit([CardGoneError()]), timeout_s=0.2)) as at:
        view = await at.counter.request(REQUEST)
        at.readers.insert()
        failed = await at.ended(view.id)
        assert (failed.failure, failed.tracking_code) == (Failure.VISIT_TIMED_OUT, CODE)


async def test_a_card_that_dawdles_is_told_apart_from_one_that_never_came(journal: Journal) -> None:
    async with running(make(journal, FakeVisit(registry=asyncio.Event()), card_s=0.01)) as at:
        view = await at.counter.request(REQUEST)
        for _ in range(3):
            at.readers.insert()
        assert (await at.ended(view.id)).failure is Failure.CARD_MUTE


async def test_a_shutdown_while_a_cancel_is_under_way_still_ends_the_counter(journal: Journal) -> None:
    at = make(journal, FakeVisit(registry=asyncio.Event()))
    task = asyncio.create_task(at.counter.run())
    view = await at.counter.request(REQUEST)
    at.readers.insert()
    await shown(at.counter, lambda screen: screen.step is Step.ASKING_REGISTRY)
    cancelling = asyncio.create_task(at.counter.cancel(view.id, audience=None))
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    await cancelling
    ended = await journal.visit(view.id)
    assert ended is not None
    assert ended.result is not None


async def test_a_visit_that_is_ended_before_the_time_is_known_is_dated_by_its_beginning(journal: Journal) -> None:
    before = make(journal, FakeVisit())
    await before.counter.request(REQUEST)
    after = make(journal, FakeVisit())
    after.counter._clock = TrustedClock(Ticks())
    await after.counter.end_interrupted()
    assert [fact.at_ms for fact in await after.facts()] == [T]
