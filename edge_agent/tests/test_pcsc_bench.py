"""The PC/SC door on Debian's own pcscd, with a toy card behind vpcd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.cards.errors import CardGoneError, CardUnsupportedError
from edge_agent.errors import ReaderError
from edge_agent.pcsc import CardPresent, Readers
from tools.pcscd import READER_NAME, PrivatePcscd
from wire.messages import ReaderState

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]
VPCD = ROOT / ".govah/vpcd/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
TOY_CARD = Path(__file__).parent / "toy_card.py"
ATR = "3B80800101"
T0_ATR = "3B00"
CHALLENGE = bytes.fromhex("0084000808")
LEAVE = bytes.fromhex("00DD0000")
TWO_SECONDS = bytes.fromhex("00EE140000")
PCSCD_LOOKS_S = 0.4
HOLD_THE_CARD = """
from smartcard import scard
_, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
_, names = scard.SCardListReaders(context, [])
result, handle, _ = scard.SCardConnect(context, sorted(names)[0], scard.SCARD_SHARE_SHARED, 3)
print(f"{result:08X}", flush=True)
input()
scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD)
"""


class Card:
    """The toy card in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, *words: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for word in words:
            self._process.stdin.write(word.encode() + b"\n")
            assert await self._process.stdout.readline() == word.encode() + b"\n"

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@contextlib.asynccontextmanager
async def toy_card(pcscd: PrivatePcscd, atr: str = ATR) -> AsyncIterator[Card]:
    process = await asyncio.create_subprocess_exec(
        *pcscd.enter, sys.executable, str(TOY_CARD), str(pcscd.port), atr,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    card = Card(process)
    try:
        yield card
    finally:
        await card.end()


@pytest.fixture
async def pcscd(tmp_path: Path) -> AsyncIterator[PrivatePcscd]:
    """A daemon of the test's own. libpcsclite reads the socket's name once, so each test repoints one link."""
    async with PrivatePcscd.start(tmp_path, VPCD) as started:
        at = os.environ.setdefault("PCSCLITE_CSOCK_NAME", str(Path(tempfile.mkdtemp()) / "pcscd.comm"))
        _point(Path(at), started.socket)
        yield started


def _point(link: Path, socket: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(socket)


@pytest.fixture
async def card(pcscd: PrivatePcscd) -> AsyncIterator[Card]:
    async with toy_card(pcscd) as put:
        yield put


@pytest.fixture
async def readers(pcscd: PrivatePcscd) -> AsyncIterator[Readers]:
    async with open_readers() as opened:
        yield opened
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pcsc")] == []


def open_readers() -> Readers:
    return Readers(allow=lambda name: name.startswith(READER_NAME), chance=random.random)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_card_is_seen_with_its_atr_and_answers(readers: Readers, card: Card) -> None:
    await card.do("insert")
    present = await readers.next_card()
    assert present.reader.startswith(READER_NAME)
    assert present.atr == bytes.fromhex(ATR)
    assert readers.cards == (present,)
    async with readers.connect(present) as connection:
        assert await connection.transmit(CHALLENGE) == bytes(8) + b"\x90\x00"
        assert await connection.transmit(bytes.fromhex("00CA000002AABB00")) == bytes.fromhex("00CA000002AABB009000")
        assert await connection.transmit(bytes.fromhex("0099000000")) == b"\x6d\x00"
    await card.do("remove")
    await readers.gone(present)
    assert readers.state is ReaderState.EMPTY


async def test_a_long_command_and_a_long_answer_pass_whole(readers: Readers, card: Card) -> None:
    command = bytes.fromhex("00CA000000") + (60_000).to_bytes(2, "big") + random.randbytes(60_000) + b"\x00\x00"
    await card.do("insert")
    async with readers.connect(await readers.next_card()) as connection:
        assert await connection.transmit(command) == command + b"\x90\x00"


async def test_to_a_t0_card_le_is_left_out_and_an_extended_length_refused(
    readers: Readers, pcscd: PrivatePcscd
) -> None:
    async with toy_card(pcscd, T0_ATR) as card:
        await card.do("insert")
        async with readers.connect(await readers.next_card()) as connection:
            assert await connection.transmit(bytes.fromhex("00CA000002AABB00")) == bytes.fromhex("00CA000002AABB9000")
            with pytest.raises(CardUnsupportedError):
                await connection.transmit(bytes.fromhex("00CA0000000800"))


@pytest.mark.fault
async def test_a_card_torn_out_in_a_transmit_is_gone_and_is_new_when_it_is_back_at_once(
    readers: Readers, card: Card
) -> None:
    await card.do("insert")
    before = await readers.next_card()
    async with readers.connect(before) as connection:
        with pytest.raises(CardGoneError):
            await connection.transmit(LEAVE)
        await card.do("insert")
        with pytest.raises(CardGoneError):
            await connection.transmit(CHALLENGE)
    after = await readers.next_card()
    assert after.insertion > before.insertion
    async with readers.connect(after) as connection:
        pending = asyncio.create_task(connection.transmit(TWO_SECONDS))
        await asyncio.sleep(0.1)
        await card.do("remove")
        with pytest.raises(CardGoneError, match="unknown"):
            await pending
    await readers.gone(after)


async def test_a_card_exchanged_faster_than_anybody_looks_is_a_new_insertion(readers: Readers, card: Card) -> None:
    await card.do("insert")
    last = 0
    for _ in range(3):
        present = await readers.next_card()
        assert present.insertion > last
        last = present.insertion
        async with readers.connect(present) as connection:
            await connection.transmit(CHALLENGE)
        await asyncio.sleep(random.random() * 2 * PCSCD_LOOKS_S)
        await card.do("swap")


@pytest.mark.fault
async def test_pcscd_may_be_killed_while_we_wait_and_while_we_transmit(
    readers: Readers, card: Card, pcscd: PrivatePcscd
) -> None:
    open_before = None
    for _ in range(3):
        await pcscd.kill()
        async for state in readers.changes():
            if state is ReaderState.NO_SERVICE:
                break
        await pcscd.restart()
        await card.do("insert")
        present = await readers.next_card()
        async with readers.connect(present) as connection:
            assert await connection.transmit(CHALLENGE) == bytes(8) + b"\x90\x00"
            pending = asyncio.create_task(connection.transmit(TWO_SECONDS))
            await asyncio.sleep(0.1)
            await pcscd.kill()
            with pytest.raises(CardGoneError):
                await pending
        await readers.gone(present)
        open_before = open_before or descriptors()
        assert descriptors() <= open_before, "no socket of a dead daemon stays open"


async def test_a_daemon_that_starts_late_is_found(pcscd: PrivatePcscd, card: Card) -> None:
    await pcscd.kill()
    async with open_readers() as readers:
        await asyncio.sleep(0.2)
        assert readers.state is ReaderState.NO_SERVICE
        with pytest.raises(CardGoneError):
            async with readers.connect(CardPresent(f"{READER_NAME} 00 00", b"", 1)):
                pytest.fail("connected")
        await pcscd.restart()
        await card.do("insert")
        assert (await readers.next_card()).atr == bytes.fromhex(ATR)


async def test_a_card_in_another_programs_hands_is_a_reader_error(
    readers: Readers, card: Card, pcscd: PrivatePcscd
) -> None:
    await card.do("insert")
    present = await readers.next_card()
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD_THE_CARD,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PCSCLITE_CSOCK_NAME": pcscd.socket},
    )  # fmt: skip
    assert other.stdout is not None
    assert await other.stdout.readline() == b"00000000\n"
    with pytest.raises(ReaderError, match="8010000B"):
        async with readers.connect(present):
            pytest.fail("connected")
    await other.communicate(b"\n")
    async with readers.connect(present) as connection:
        assert await connection.transmit(CHALLENGE) == bytes(8) + b"\x90\x00"


async def test_closing_does_not_wait_for_a_card_and_leaves_no_thread(pcscd: PrivatePcscd) -> None:
    for _ in range(5):
        async with open_readers() as readers:
            async for state in readers.changes():
                if state is ReaderState.EMPTY:
                    break
            await asyncio.sleep(random.random() / 20)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pcsc")] == []
