"""What the screen shows now, and those who wait for the next thing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

from edge_agent.kiosk.desk import Screen


class Shown:
    """One screen at a time. Everybody who waits sees the newest; ones between may be missed."""

    def __init__(self, first: Screen) -> None:
        self.now = first
        self._changed = asyncio.Event()

    def show(self, screen: Screen) -> None:
        """Put `screen` up; one that differs in its time alone is no news."""
        if dataclasses.replace(screen, since_ms=self.now.since_ms) == self.now:
            return
        self.now = screen
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def next_change(self) -> asyncio.Event:
        """Set at the first change from now on. To be taken before looking at what it may change."""
        return self._changed

    async def each(self) -> AsyncIterator[Screen]:
        """The screen now, then each new one."""
        while True:
            changed = self._changed
            yield self.now
            await changed.wait()
