"""A virtual reader for tests: the listening side of vpcd's protocol, as vpcd itself speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

WITHIN_S: Final = 10.0
POWER_ON: Final = b"\x01"
RESET: Final = b"\x02"
GIVE_ATR: Final = b"\x04"


class VirtualReader:
    """Listens on a port of loopback; takes one card at a time."""

    def __init__(self) -> None:
        self._cards: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._card: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[VirtualReader]:
        """A reader that is up."""
        reader = cls()
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    async def start(self) -> None:
        """Listen, again on the same port after a stop."""
        self._server = await asyncio.start_server(self._arrived, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As when pcscd dies: listener and connection go."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        while self._writers:
            writer = self._writers.pop()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        self._cards = asyncio.Queue()

    async def card(self) -> None:
        """Wait for a card to come."""
        async with asyncio.timeout(WITHIN_S):
            self._card = await self._cards.get()

    async def ask(self, frame: bytes) -> bytes | None:
        """Send one frame and wait for the answer; None when the card left instead."""
        assert self._card is not None
        async with asyncio.timeout(WITHIN_S):
            try:
                await self.tell(frame)
                size = int.from_bytes(await self._card[0].readexactly(2))
                return await self._card[0].readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def tell(self, frame: bytes) -> None:
        """Send one frame; length and payload apart, as vpcd does."""
        assert self._card is not None
        self._card[1].write(len(frame).to_bytes(2))
        await self._card[1].drain()
        self._card[1].write(frame)
        await self._card[1].drain()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._cards.put_nowait((reader, writer))
