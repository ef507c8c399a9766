"""Live pages: one poller looks at the database's version, and every open page renders again when it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final

import sqlalchemy as sa
import structlog

POLL_S: Final = 0.5
BEAT_S: Final = 10.0
MAX_STREAMS: Final = 64
BEAT: Final = b": beat\n\n"

_log = structlog.get_logger()


class Pulse:
    """Tells waiters when the database changed. Polls only while somebody waits, and once for all of them."""

    def __init__(self, read_version: Callable[[], int], *, poll_s: float = POLL_S) -> None:
        self._read_version = read_version
        self._poll_s = poll_s
        self._changed = asyncio.Condition()
        self._poller: asyncio.Task[None] | None = None
        self._waiting = 0
        self.version = -1
        self.closed = False

    async def newer_than(self, version: int, *, within_s: float) -> int:
        """The version as soon as it differs from `version`, or the same one when `within_s` have passed."""
        self._waiting += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.closed or self.version not in {version, -1})
        except TimeoutError:
            return version
        finally:
            self._waiting -= 1
        return self.version

    async def _poll(self) -> None:
        while self._waiting and not self.closed:
            try:
                version = await asyncio.to_thread(self._read_version)
            except sa.exc.SQLAlchemyError as exc:
                # pages keep what they show and say that it may be old; the next look may succeed
                _log.warning("database_unreadable", error=type(exc).__name__)
            else:
                async with self._changed:
                    self.version = version
                    self._changed.notify_all()
            await asyncio.sleep(self._poll_s)

    async def close(self) -> None:
        """Stop polling and end every stream. Safe to repeat."""
        self.closed = True
        async with self._changed:
            self._changed.notify_all()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait({self._poller})


def event(name: str, data: str) -> bytes:
    """One server-sent event; every line of `data` gets its own field."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()


async def stream(
    pulse: Pulse,
    render: Callable[[], Iterable[tuple[str, str]] | None],
    *,
    beat_s: float = BEAT_S,
) -> AsyncGenerator[bytes, None]:
    """Named fragments of a page, each sent when its text differs from what was sent before.

    Args:
        pulse: says when to look again.
        render: blocks on the database (called in a thread); gives (name, HTML) pairs, or None when the session ended,
            which ends the stream.
        beat_s: how often to look, and to say that the stream lives, when nothing changes.
    """
    sent: dict[str, str] = {}
    version = -1
    while (fragments := await asyncio.to_thread(render)) is not None:
        for name, html in fragments:
            if sent.get(name) != html:
                sent[name] = html
                yield event(name, html)
        newer = await pulse.newer_than(version, within_s=beat_s)
        if pulse.closed:
            return
        if newer == version:
            yield BEAT
        version = newer
