from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tools.simulators import issuer
from tools.simulators.card.control import Control
from tools.simulators.card.memory import VolatileMemory
from tools.simulators.card.system import Answer, CardSystem
from tools.simulators.card.tests.reader import GIVE_ATR, POWER_ON, RESET, VirtualReader
from tools.simulators.card.vpcd import CONTACT, INSTANT, Mishap, Slot

IMAGE = issuer.personalise(1)
SELECT_LDS = bytes.fromhex("00a4040c07a0000002471001")
SELECT_EID = bytes.fromhex("00a4040c0ca000000063504b43532d3135")
READ_SFI_1 = bytes.fromhex("00b0810000")
OK = b"\x90\x00"


@asynccontextmanager
async def slot_at(port: int) -> AsyncIterator[tuple[Slot, CardSystem]]:
    system = CardSystem(IMAGE, VolatileMemory())
    async with asyncio.TaskGroup() as tasks:
        slot = Slot(system, port, INSTANT, tasks)
        try:
            yield slot, system
        finally:
            await slot.pull()


async def test_a_card_put_in_answers_until_it_is_pulled() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.insert()
        await reader.card()
        await reader.tell(POWER_ON)
        assert await reader.ask(GIVE_ATR) == IMAGE.atr
        assert await reader.ask(SELECT_LDS) == OK
        assert await reader.ask(READ_SFI_1) == IMAGE.groups[1] + OK
        assert (slot.inserted, slot.connected, slot.apdus) == (True, True, 2)
        await slot.pull()
        assert await reader.ask(GIVE_ATR) is None
        assert (slot.inserted, slot.connected) == (False, False)


async def test_reset_and_removal_end_the_session() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.insert()
        await reader.card()
        await reader.ask(SELECT_LDS)
        await reader.tell(RESET)
        answer = await reader.ask(bytes.fromhex("00b09d0000"))
        assert answer == b"\x6a\x82"
        await reader.ask(SELECT_LDS)
        await slot.pull()
        slot.insert()
        await reader.card()
        assert await reader.ask(bytes.fromhex("00b09d0000")) == b"\x6a\x82"


@pytest.mark.fault
async def test_a_reader_that_dies_gets_its_card_back_when_it_returns() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.insert()
        await reader.card()
        await reader.ask(SELECT_LDS)
        await reader.stop()
        await reader.start()
        await reader.card()
        assert slot.inserted
        assert await reader.ask(GIVE_ATR) == IMAGE.atr
        assert slot.apdus == 1, "the card was not taken out: counting goes on"


async def test_a_card_put_in_before_the_reader_is_up_waits_for_it() -> None:
    async with VirtualReader.listening() as reader:
        await reader.stop()
        async with slot_at(reader.port) as (slot, _):
            slot.insert()
            await asyncio.sleep(0.02)
            assert (slot.inserted, slot.connected) == (True, False)
            await reader.start()
            await reader.card()
            assert await reader.ask(GIVE_ATR) == IMAGE.atr


@pytest.mark.fault
@pytest.mark.parametrize(("mishap", "verdicts"), [(Mishap.PULL, 0), (Mishap.PULL_AFTER, 1)])
async def test_a_pull_is_before_or_after_the_command_as_arranged(mishap: Mishap, verdicts: int) -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, system):
        slot.arrange(2, mishap)
        slot.insert()
        await reader.card()
        assert await reader.ask(GIVE_ATR) == IMAGE.atr, "controls are not counted"
        assert await reader.ask(SELECT_EID) == OK
        assert await reader.ask(bytes.fromhex("0088000320" + "00" * 32 + "00")) is None
        assert system.state.verdicts == verdicts
        assert not slot.inserted
        slot.insert()
        await reader.card()
        for _ in range(3):
            assert await reader.ask(SELECT_EID) == OK, "a mishap happens once"


async def test_a_pull_calls_off_what_was_arranged() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.arrange(1, Mishap.PULL)
        await slot.pull()
        slot.insert()
        await reader.card()
        assert await reader.ask(SELECT_EID) == OK


@pytest.mark.fault
async def test_a_mute_card_stays_in_and_says_nothing_until_it_is_pulled() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.arrange(1, Mishap.MUTE)
        slot.insert()
        await reader.card()
        asking = asyncio.create_task(reader.ask(SELECT_EID))
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert not asking.done()
        assert slot.inserted
        await slot.pull()
        assert await asking is None


def test_a_contact_card_takes_the_time_that_its_bytes_take() -> None:
    assert CONTACT.delay_s(5, Answer(bytes(256), 0x9000)) == pytest.approx(0.012 + 0.00035 * (5 + 256 + 2))
    assert CONTACT.delay_s(38, Answer(bytes(105), 0x9000, signatures=1)) == pytest.approx(
        0.102 + 0.00035 * (38 + 105 + 2)
    )
    assert INSTANT.delay_s(300, Answer(bytes(256), 0x9000, signatures=1)) == 0


async def test_the_control_socket_moves_the_card_and_tells_its_state() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, system):
        control = Control(slot, system)
        assert (await control.answer(b'{"do": "status"}'))["inserted"] is False
        assert (await control.answer(b'{"do": "pull_at", "apdu": 2}'))["inserted"] is False
        assert (await control.answer(b'{"do": "insert"}'))["inserted"] is True
        await reader.card()
        await reader.ask(SELECT_EID)
        assert await reader.ask(SELECT_EID) is None
        status = await control.answer(b'{"do": "status"}')
        assert status == {
            "inserted": False,
            "connected": False,
            "apdus": 2,
            "card_ms": 0.0,
            "pin1_tries": 3,
            "verdicts": 0,
        }
        await control.answer(b'{"do": "insert"}')
        assert (await control.answer(b'{"do": "pull"}'))["inserted"] is False


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b"{}", b'{"do": "dance"}', b'{"do": "pull_at"}', b'{"do": "pull_at", "apdu": 0}', b'{"do": 1}',
     b'{"do": "insert", "apdu": 1}', b'{"do": "mute_at", "apdu": "1"}'],
)  # fmt: skip
async def test_an_order_that_is_none_is_refused_and_changes_nothing(line: bytes) -> None:
    async with slot_at(1) as (slot, system):
        assert "error" in await Control(slot, system).answer(line)
        assert not slot.inserted


async def test_what_is_no_frame_ends_the_connection_and_the_card_comes_back() -> None:
    async with VirtualReader.listening() as reader, slot_at(reader.port) as (slot, _):
        slot.insert()
        await reader.card()
        with suppress(ConnectionError):
            await reader.tell(b"")
        assert await reader.ask(SELECT_EID) is not None
