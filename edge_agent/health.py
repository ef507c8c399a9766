"""The health report: what the fleet may know of a terminal, measured when it is asked for. Nothing of any visit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_agent.clock import TrustedClock
from edge_agent.counter import Counter
from edge_agent.journal import Journal
from edge_agent.pcsc import Readers
from wire.messages import Health


class HealthReport:
    """Called with the number of the connection that will carry the report."""

    def __init__(
        self,
        *,
        boot: bytes,
        journal: Journal,
        clock: TrustedClock,
        counter: Counter,
        readers: Readers,
        monotonic: Callable[[], float],
        resident_kib: Callable[[], int],
    ) -> None:
        self._boot = boot
        self._journal = journal
        self._clock = clock
        self._counter = counter
        self._readers = readers
        self._monotonic = monotonic
        self._started_s = monotonic()
        self._resident_kib = resident_kib

    async def __call__(self, session: int) -> Health:
        figures = await self._journal.figures()
        return Health(
            boot=self._boot,
            session=session,
            at_ms=self._clock.about_ms(),
            uptime_s=int(self._monotonic() - self._started_s),
            reader=self._readers.state,
            blocked=self._counter.blocked(),
            facts_unsent=figures.unsent,
            facts_kept=figures.kept,
            journal_bytes=figures.used_bytes,
            rss_kib=self._resident_kib(),
            clock_trusted=self._clock.trusted,
        )


def own_resident_kib() -> int:
    """VmRSS of this process in KiB; 0 if the kernel does not say."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0])
    return 0
