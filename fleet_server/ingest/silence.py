"""For how long terminals have been silent, by a clock that only goes forward: a server whose clock is set loses nobody.

No I/O, no clock: `tick_ms` is given. Rows hold the wall clock (`db.terminals.last_seen_ms`); nothing is judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable


class Silence:
    """Silence while we do not listen, because the broker or this process was down, is our own and counts for nobody."""

    def __init__(self) -> None:
        self._listening_since_ms = 0
        self._heard_ms: dict[str, int] = {}

    def listening(self, tick_ms: int) -> None:
        """We hear from now on."""
        self._listening_since_ms = tick_ms

    def heard(self, serials: Iterable[str], tick_ms: int) -> None:
        """Something came from `serials`."""
        self._heard_ms.update(dict.fromkeys(serials, tick_ms))

    def silent_ms(self, serial: str, tick_ms: int) -> int:
        """Since the last word of `serial`, or since we listen."""
        return tick_ms - max(self._heard_ms.get(serial, 0), self._listening_since_ms)
