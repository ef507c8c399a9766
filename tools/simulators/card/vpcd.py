"""The contacts of a simulated card: the protocol of vsmartcard's virtual reader (vpcd), card side.

The reader listens, the card connects: a connection is a card in the slot, its end is a card pulled. Frames have a
length of two bytes, big endian; a frame of one byte is a control (0 off, 1 on, 2 reset, 4 give ATR), any other an APDU.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from tools.simulators.card.system import Answer, CardSystem

HOST: Final = "127.0.0.1"
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0


class _Control(IntEnum):
    OFF = 0
    ON = 1
    RESET = 2
    ATR = 4


class Mishap(StrEnum):
    """What can be made to happen when a certain APDU arrives."""

    PULL = "pull"
    """The card leaves; the command is not executed."""
    PULL_AFTER = "pull_after"
    """The command is executed, the card leaves before it answers."""
    MUTE = "mute"
    """The card never answers again until it is pulled."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a card takes. Milliseconds."""

    apdu_ms: float
    byte_ms: float
    signature_ms: float

    def delay_s(self, apdu_bytes: int, answer: Answer) -> float:
        """From the arrival of a command to the departure of its answer."""
        transfer_ms = self.byte_ms * (apdu_bytes + len(answer.data) + 2)
        return (self.apdu_ms + transfer_ms + self.signature_ms * answer.signatures) / 1000


CONTACT: Final = Pace(apdu_ms=12.0, byte_ms=0.35, signature_ms=90.0)
"""A contact card at about 31 kbit/s net."""
INSTANT: Final = Pace(apdu_ms=0.0, byte_ms=0.0, signature_ms=0.0)


class Slot:
    """Puts a card in and takes it out. Its tasks live in the task group that it is given."""

    def __init__(self, system: CardSystem, port: int, pace: Pace, tasks: asyncio.TaskGroup) -> None:
        self._system = system
        self._port = port
        self._pace = pace
        self._tasks = tasks
        self._presence: asyncio.Task[None] | None = None
        self._mishap: tuple[int, Mishap] | None = None
        self.connected = False
        self.apdus = 0
        """APDUs that arrived since the card was put in."""
        self.time_s = 0.0
        """Simulated time that these took the card."""

    @property
    def inserted(self) -> bool:
        """Whether the card is in; while pcscd is away it is in, but not connected."""
        return self._presence is not None and not self._presence.done()

    def insert(self) -> None:
        """Put the card in; nothing happens if it is. Counting starts anew."""
        if not self.inserted:
            self.apdus, self.time_s = 0, 0.0
            self._presence = self._tasks.create_task(self._be_present())

    async def pull(self) -> None:
        """Take the card out; nothing happens if it is. What was arranged and did not happen is called off."""
        self._mishap = None
        if self._presence is not None:
            self._presence.cancel()
            await asyncio.wait([self._presence])

    def arrange(self, apdu: int, mishap: Mishap) -> None:
        """Let `mishap` happen, once, when the APDU number `apdu` since insertion arrives, the first being 1.

        With the card out, it is for the next insertion.
        """
        self._mishap = (apdu, mishap)

    async def _be_present(self) -> None:
        """Connect whenever a reader is there, until pulled."""
        retries = _back_off()
        while True:
            connection = await self._connect()
            if connection is None:
                await asyncio.sleep(next(retries))
                continue
            retries = _back_off()
            try:
                self.connected = True
                if not await self._serve(connection):
                    return
            finally:
                self.connected = False
                connection.close()
                self._system.reset()

    async def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (HOST, self._port))
        except OSError:
            connection.close()
            return None
        except asyncio.CancelledError:
            connection.close()
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    async def _serve(self, connection: socket.socket) -> bool:
        """Answer until the reader goes (True) or a mishap pulls the card (False)."""
        loop = asyncio.get_running_loop()
        while True:
            frame = await _receive_frame(connection)
            if frame is None:
                return True
            if len(frame) == 1:
                answer = self._control(frame[0])
            else:
                self.apdus += 1
                mishap = self._due()
                if mishap is Mishap.PULL:
                    return False
                executed = self._system.process(frame)
                if mishap is Mishap.PULL_AFTER:
                    return False
                if mishap is Mishap.MUTE:
                    await _until_closed(connection)
                    return True
                delay_s = self._pace.delay_s(len(frame), executed)
                self.time_s += delay_s
                await asyncio.sleep(delay_s)
                answer = executed.to_bytes()
            if answer is not None:
                try:
                    await loop.sock_sendall(connection, len(answer).to_bytes(2) + answer)
                except OSError:
                    return True

    def _control(self, code: int) -> bytes | None:
        match code:
            case _Control.ATR:
                return self._system.atr
            case _Control.OFF | _Control.ON | _Control.RESET:
                self._system.reset()
        return None

    def _due(self) -> Mishap | None:
        if self._mishap is None or self._mishap[0] != self.apdus:
            return None
        _, mishap = self._mishap
        self._mishap = None
        return mishap


async def _receive_frame(connection: socket.socket) -> bytes | None:
    """One frame, or None at the end of the connection."""
    head = await _receive_exactly(connection, 2)
    return None if head is None else await _receive_exactly(connection, int.from_bytes(head))


async def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        try:
            # vpcd sends length and payload apart: without an immediate acknowledgement each frame costs 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            piece = await loop.sock_recv(connection, size - len(data))
        except OSError:
            return None
        if not piece:
            return None
        data += piece
    return data


async def _until_closed(connection: socket.socket) -> None:
    while await _receive_exactly(connection, 1) is not None:
        pass


def _back_off() -> Iterator[float]:
    """Seconds to wait before each further attempt to connect, without end."""
    delay_s = _FIRST_RETRY_S
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, _LAST_RETRY_S)
