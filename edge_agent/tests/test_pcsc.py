"""The PC/SC door against a fake of pyscard's raw calls; test_pcsc_bench.py has the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from edge_agent.cards.errors import CardGoneError, CardMuteError, CardUnsupportedError
from edge_agent.errors import ReaderError
from edge_agent.pcsc import CardPresent, Connection, Readers, reader_names
from edge_agent.tests import fake_scard as fake
from edge_agent.tests.fake_scard import FakeScard
from wire.messages import ReaderState

READER = "Govah 00 00"
COMMAND = bytes.fromhex("0084000008")


@pytest.fixture
def scard() -> FakeScard:
    return FakeScard(READER)


@pytest.fixture
async def readers(scard: FakeScard) -> AsyncIterator[Readers]:
    async with open_readers(scard) as opened:
        yield opened
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pcsc")] == []
    assert scard.contexts == {}, "every context is released"


@contextlib.asynccontextmanager
async def open_readers(scard: FakeScard, answer_s: float = 30.0) -> AsyncIterator[Readers]:
    async with Readers(
        allow=lambda name: name.startswith("Govah"), chance=lambda: 0.0, settle_s=0.0, answer_s=answer_s, scard=scard
    ) as opened:
        yield opened


async def reaches(readers: Readers, wanted: ReaderState) -> None:
    async for state in readers.changes():
        if state is wanted:
            return


# -- readers and cards ---------------------------------------------------------------------------------------------


async def test_an_insertion_is_given_once_and_its_end_is_noticed(readers: Readers, scard: FakeScard) -> None:
    scard.insert(READER, b"\x3b\x01\x02")
    card = await readers.next_card()
    assert card == CardPresent(READER, b"\x3b\x01\x02", 1)
    assert readers.state is ReaderState.CARD_PRESENT
    again = asyncio.create_task(readers.next_card())
    await asyncio.sleep(0.05)
    assert not again.done(), "the same insertion is not given twice"
    scard.remove(READER)
    await readers.gone(card)
    assert readers.cards == ()
    scard.insert(READER)
    assert (await again).insertion == 2


async def test_a_card_exchanged_between_two_looks_is_another_insertion(readers: Readers, scard: FakeScard) -> None:
    scard.insert(READER)
    card = await readers.next_card()
    scard.exchange(READER)
    await readers.gone(card)
    assert (await readers.next_card()).insertion > card.insertion


async def test_the_daemon_may_start_late_die_and_come_back(scard: FakeScard) -> None:
    scard.die()
    async with open_readers(scard) as readers:
        await reaches(readers, ReaderState.NO_SERVICE)
        scard.live()
        await reaches(readers, ReaderState.EMPTY)
        scard.insert(READER)
        for insertion in range(1, 4):
            card = await readers.next_card()
            assert card.insertion == insertion, "the card stayed in, but its session is dead, so it counts anew"
            scard.die()
            await readers.gone(card)
            assert readers.state is ReaderState.NO_SERVICE
            scard.live()


async def test_readers_come_and_go_and_only_the_allowed_ones_count(scard: FakeScard) -> None:
    scard.plug("Other 01 00")
    scard.insert("Other 01 00")
    async with open_readers(scard) as readers:
        await reaches(readers, ReaderState.EMPTY)
        scard.unplug(READER)
        await reaches(readers, ReaderState.NO_READER)
        scard.plug(READER)
        await reaches(readers, ReaderState.EMPTY)


async def test_two_cards_are_given_in_the_order_of_their_insertion(readers: Readers, scard: FakeScard) -> None:
    scard.plug("Govah 01 00")
    await reaches(readers, ReaderState.EMPTY)
    scard.insert("Govah 01 00")
    await reaches(readers, ReaderState.CARD_PRESENT)
    scard.insert(READER)
    assert [(await readers.next_card()).reader for _ in range(2)] == ["Govah 01 00", READER]


async def test_a_bug_in_the_watcher_reaches_those_who_wait(scard: FakeScard) -> None:
    def allow(_name: str) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with Readers(allow=allow, chance=lambda: 0.0, scard=scard) as readers:
            await readers.next_card()


async def test_whoever_still_waits_after_closing_is_told(scard: FakeScard) -> None:
    async with open_readers(scard) as readers:
        waiting = asyncio.create_task(readers.next_card())
        await asyncio.sleep(0)
    with pytest.raises(ReaderError):
        await waiting


def test_reader_names_says_what_the_daemon_lists_or_that_there_is_none(scard: FakeScard) -> None:
    assert reader_names(scard) == [READER]
    scard.unplug(READER)
    assert reader_names(scard) == []
    scard.die()
    with pytest.raises(ReaderError):
        reader_names(scard)
    assert scard.contexts == {}


# -- a connection --------------------------------------------------------------------------------------------------


@pytest.fixture
async def card(readers: Readers, scard: FakeScard) -> CardPresent:
    scard.insert(READER)
    return await readers.next_card()


async def test_a_command_goes_to_the_card_and_its_answer_comes_back(
    readers: Readers, scard: FakeScard, card: CardPresent
) -> None:
    scard.answer = lambda command: command[::-1] + b"\x61\x02"
    async with readers.connect(card) as connection:
        assert await connection.transmit(COMMAND) == COMMAND[::-1] + b"\x61\x02", "61xx is the caller's"
        assert scard.slots[READER].holder is not None
    assert scard.slots[READER].holder is None
    assert len(scard.threads) == 2, "watcher and connection have a context each, made in their own threads"
    with pytest.raises(CardGoneError):
        await connection.transmit(COMMAND)


@pytest.mark.parametrize("said", [fake.NOT_TRANSACTED, fake.REMOVED, fake.NO_SERVICE, b"", b"\x90"])
async def test_whatever_goes_wrong_in_a_transmit_is_a_card_gone_and_the_card_counts_anew(
    readers: Readers, scard: FakeScard, card: CardPresent, said: int | bytes
) -> None:
    scard.answer = lambda _command: said
    async with readers.connect(card) as connection:
        with pytest.raises(CardGoneError):
            await connection.transmit(COMMAND)
    if said != b"\x90":
        again = await readers.next_card()
        assert again.insertion > card.insertion, "back before pcscd has looked: still another session"


async def test_a_card_that_left_before_connecting_is_gone(
    readers: Readers, scard: FakeScard, card: CardPresent
) -> None:
    scard.remove(READER)
    with pytest.raises(CardGoneError):
        async with readers.connect(card):
            pytest.fail("connected")
    await readers.gone(card)
    with pytest.raises(CardGoneError):
        async with readers.connect(card):
            pytest.fail("connected")


async def test_a_mute_card_is_a_state_of_its_own(readers: Readers, scard: FakeScard) -> None:
    scard.insert(READER, b"")
    card = await readers.next_card()
    assert card.atr == b""
    with pytest.raises(CardMuteError):
        async with readers.connect(card):
            pytest.fail("connected")


async def test_a_card_that_another_program_holds_is_a_reader_error(
    readers: Readers, scard: FakeScard, card: CardPresent
) -> None:
    async with readers.connect(card):
        with pytest.raises(ReaderError):
            async with readers.connect(card):
                pytest.fail("connected")


@pytest.fixture
def gate(scard: FakeScard) -> Callable[[], None]:
    """Holds every command on the card until it is called."""
    opened = threading.Event()

    def answer(_command: bytes) -> bytes:
        opened.wait(5)
        return b"\x90\x00"

    scard.answer = answer
    return opened.set


async def transmitting(scard: FakeScard, connection: Connection) -> asyncio.Task[bytes]:
    task = asyncio.create_task(connection.transmit(COMMAND))
    await asyncio.to_thread(scard.busy.wait, 5)
    return task


async def test_a_cancelled_transmit_ends_on_the_card_before_the_next_begins(
    readers: Readers, scard: FakeScard, card: CardPresent, gate: Callable[[], None]
) -> None:
    async with readers.connect(card) as connection:
        first = await transmitting(scard, connection)
        first.cancel()
        second = asyncio.create_task(connection.transmit(COMMAND))
        await asyncio.sleep(0.02)
        assert first.cancelled()
        assert not second.done()
        gate()
        assert await second == b"\x90\x00"
    assert scard.transmitting_most == 1


async def test_a_visit_cancelled_in_a_transmit_leaves_neither_thread_nor_context_nor_card_behind(
    readers: Readers, scard: FakeScard, card: CardPresent, gate: Callable[[], None]
) -> None:
    async def visit() -> None:
        async with readers.connect(card) as connection:
            await connection.transmit(COMMAND)

    task = asyncio.create_task(visit())
    await asyncio.to_thread(scard.busy.wait, 5)
    task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done(), "leaving waits for the command in flight"
    gate()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scard.handles == {}
    assert len(scard.contexts) == 1, "the watcher's"


async def test_a_card_that_never_answers_is_mute_after_a_limit(scard: FakeScard, gate: Callable[[], None]) -> None:
    async with open_readers(scard, answer_s=0.05) as readers:
        scard.insert(READER)
        async with readers.connect(await readers.next_card()) as connection:
            with pytest.raises(CardMuteError, match="unknown"):
                await connection.transmit(COMMAND)
            gate()
    assert scard.handles == {}


async def test_a_driver_that_hangs_does_not_hold_the_visit_and_its_thread_ends_by_itself(
    scard: FakeScard, gate: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.pcsc.readers._END_LIMIT_S", 0.05)
    async with open_readers(scard, answer_s=0.05) as readers:
        scard.insert(READER)
        card = await readers.next_card()
        with pytest.raises(CardMuteError):
            async with readers.connect(card) as connection:
                await connection.transmit(COMMAND)
        (left,) = [thread for thread in threading.enumerate() if thread.name.startswith("pcsc-card")]
        with pytest.raises(ReaderError, match="8010000B"):
            async with readers.connect(card):
                pytest.fail("connected beside a command in flight")
        gate()
        await asyncio.to_thread(left.join, 5)
        async with readers.connect(card) as connection:
            assert await connection.transmit(COMMAND) == b"\x90\x00"
    assert scard.contexts == {}


async def test_an_extended_command_to_a_t0_card_is_refused_and_the_session_goes_on(
    readers: Readers, scard: FakeScard, card: CardPresent
) -> None:
    scard.protocol = scard.SCARD_PROTOCOL_T0
    async with readers.connect(card) as connection:
        with pytest.raises(CardUnsupportedError):
            await connection.transmit(bytes.fromhex("00B00000000800"))
        assert await connection.transmit(COMMAND) == b"\x90\x00"
