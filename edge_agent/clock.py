"""Trusted time: what an authenticated peer said, carried on by the monotonic clock. The system's date is never asked.

A terminal without trusted time starts no visit. Two peers teach it: the registry (signed, with a nonce) and the fleet
server (over mutual TLS). When they disagree by more than `MAX_DISAGREEMENT_MS` it trusts nobody until the next answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

_log = structlog.get_logger()

MAX_DISAGREEMENT_MS: Final = 30_000
HOLDOVER_S: Final = 24 * 3600
"""A crystal of 100 ppm drifts 9 s in a day: well inside what the registry accepts."""


class ClockNotTrustedError(Exception):
    """No peer has said the time, or too long ago, or they contradict each other."""


class TrustedClock:
    """`monotonic` gives seconds and never goes back."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._taught: tuple[float, int] | None = None

    def learn(self, peer_ms: int, source: str) -> None:
        """A peer says that it is `peer_ms` (Unix milliseconds) now."""
        if self.trusted and abs(self.now_ms() - peer_ms) > MAX_DISAGREEMENT_MS:
            _log.warning("clock_disagrees", source=source, by_ms=peer_ms - self.now_ms())
            self._taught = None
            return
        self._taught = (self._monotonic(), peer_ms)

    @property
    def trusted(self) -> bool:
        return self._taught is not None and self._monotonic() - self._taught[0] < HOLDOVER_S

    def now_ms(self) -> int:
        """Unix milliseconds.

        Raises:
            ClockNotTrustedError: see the class.
        """
        if self._taught is None or not self.trusted:
            raise ClockNotTrustedError
        at, peer_ms = self._taught
        return peer_ms + int((self._monotonic() - at) * 1000)

    def about_ms(self) -> int:
        """The best guess for a time stamp that proves nothing; 0 when nobody ever said the time."""
        if self._taught is None:
            return 0
        at, peer_ms = self._taught
        return peer_ms + int((self._monotonic() - at) * 1000)
