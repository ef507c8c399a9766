"""Trusted time: what the registry said, signed for our nonce, carried on by the monotonic clock.

The system's date is never asked. Only the registry sets the clock; the fleet server's marks, which come over mutual
TLS but may be old when they arrive, can do no more than raise doubt, and doubt makes the agent ask the registry again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

_log = structlog.get_logger()

DOUBT_BEYOND_MS: Final = 120_000
"""A mark lives up to a minute in the broker, so a smaller difference says nothing."""
HOLDOVER_S: Final = 24 * 3600
"""A crystal of 100 ppm drifts 9 s in a day: well inside what the registry accepts."""
EARLIEST_MS: Final = 1_704_067_200_000
LATEST_MS: Final = 4_102_444_800_000
"""2024 to 2100: outside of it no answer is a time of day."""


class ClockNotTrustedError(Exception):
    """The registry has never said the time, or too long ago."""


class TrustedClock:
    """`monotonic` gives seconds and never goes back.

    `known` is set once the registry has said the time at all, `doubted` when it should be asked again.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._taught: tuple[float, int] | None = None
        self.known = asyncio.Event()
        self.doubted = asyncio.Event()

    def learn(self, registry_ms: int) -> None:
        """The registry says, in answer to our nonce, that it is `registry_ms` (Unix milliseconds) now."""
        if not EARLIEST_MS <= registry_ms < LATEST_MS:
            _log.warning("implausible_time_ignored")
            return
        self._taught = (self._monotonic(), registry_ms)
        self.known.set()
        self.doubted.clear()

    def compare(self, fleet_ms: int) -> None:
        """The fleet server thinks that it is `fleet_ms`; a large difference is a reason to ask, nothing more."""
        if self.trusted and abs(self.now_ms() - fleet_ms) > DOUBT_BEYOND_MS:
            self.doubted.set()

    @property
    def trusted(self) -> bool:
        return self._taught is not None and self._monotonic() - self._taught[0] < HOLDOVER_S

    def now_ms(self) -> int:
        """Unix milliseconds.

        Raises:
            ClockNotTrustedError: see the class.
        """
        if not self.trusted:
            raise ClockNotTrustedError
        return self.about_ms()

    def about_ms(self) -> int:
        """The best guess for a time stamp that proves nothing; 0 when nobody ever said the time."""
        if self._taught is None:
            return 0
        at, registry_ms = self._taught
        return registry_ms + int((self._monotonic() - at) * 1000)
