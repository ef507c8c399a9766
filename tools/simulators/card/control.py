"""The hand at the slot: a UNIX socket that takes one JSON object per line and answers each with one.

``{"do": "insert"}``, ``{"do": "pull"}``, ``{"do": "status"}``, ``{"do": "pull_at", "apdu": 3}``,
``{"do": "pull_after_at", "apdu": 3}`` and ``{"do": "mute_at", "apdu": 3}``. APDUs are counted from 1 since insertion;
with the card out such an order is for the next one. Every answer is the status, or ``{"error": …}``.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from tools.simulators.card.system import CardSystem
from tools.simulators.card.vpcd import Mishap, Slot

MAX_LINE_BYTES: Final = 4096
_MISHAPS: Final = {"pull_at": Mishap.PULL, "pull_after_at": Mishap.PULL_AFTER, "mute_at": Mishap.MUTE}


def bound(path: Path) -> socket.socket:
    """A UNIX socket at `path`, for the owner only; one that a dead process left there is replaced."""
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


class Control:
    """Answers the lines of one socket on behalf of one slot."""

    def __init__(self, slot: Slot, system: CardSystem) -> None:
        self._slot = slot
        self._system = system

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Serve a socket that `bound` made."""
        return await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line says."""
        try:
            order = json.loads(line)
        except ValueError:
            return {"error": "not JSON"}
        match order:
            case {"do": "insert", **rest} if not rest:
                self._slot.insert()
            case {"do": "pull", **rest} if not rest:
                await self._slot.pull()
            case {"do": "status", **rest} if not rest:
                pass
            case {"do": str() as what, "apdu": int() as apdu, **rest} if what in _MISHAPS and apdu > 0 and not rest:
                self._slot.arrange(apdu, _MISHAPS[what])
            case _:
                return {"error": "unknown order"}
        return self._status()

    def _status(self) -> dict[str, Any]:
        state = self._system.state
        return {
            "inserted": self._slot.inserted,
            "connected": self._slot.connected,
            "apdus": self._slot.apdus,
            "card_ms": round(self._slot.time_s * 1000, 1),
            "pin1_tries": state.pin1_tries,
            "verdicts": state.verdicts,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # the other side may go, or send a line beyond the limit: its connection ends, the card goes on
        with suppress(ConnectionError, ValueError), closing(writer):
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(line)).encode() + b"\n")
                await writer.drain()
