"""Server-sent events (WHATWG HTML section 9.2): the current screen as a fragment of HTML, then each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

from edge_agent.kiosk.desk import Screen

BEAT_S: Final = 10.0
"""How often an idle stream says that it lives. The page takes 25 s of silence for a dead terminal."""

BEAT: Final = b"event: beat\ndata: 1\n\n"


def event(name: str, data: str) -> bytes:
    """One event; every line of `data` gets its own field."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()


async def stream(
    screens: AsyncIterator[Screen],
    render: Callable[[Screen], str],
    *,
    closing: asyncio.Event,
    beat_s: float = BEAT_S,
) -> AsyncGenerator[bytes, None]:
    """The bytes of the stream. Ends when `screens` ends or `closing` is set; ends `screens` when the reader leaves."""
    closed = asyncio.ensure_future(closing.wait())
    waiting: asyncio.Future[Screen] | None = None
    try:
        while not closing.is_set():
            waiting = waiting or asyncio.ensure_future(anext(screens))
            either: set[asyncio.Future[Any]] = {waiting, closed}
            await asyncio.wait(either, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                yield BEAT
                continue
            try:
                screen = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield event("screen", render(screen))
    finally:
        closed.cancel()
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
