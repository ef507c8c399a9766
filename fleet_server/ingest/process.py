"""The ingest process: one loop that commits and then acknowledges, and beside it what terminals are told.

Commits run in the loop itself: a thread costs more than it saves when nothing else shares the process. Killed at any
point it loses and doubles nothing: what was not acknowledged comes again, what was committed is recognised.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import sqlalchemy as sa
import structlog
import uvloop

from fleet_server import db, ids, installation
from fleet_server.broker.client import BrokerClient
from fleet_server.broker.connection import ClientSettings
from fleet_server.broker.door import Delivery, Token
from fleet_server.ca import INGEST_NAME
from fleet_server.config import Config
from fleet_server.errors import ConfigError
from fleet_server.ingest.down import Marks, Outbox
from fleet_server.ingest.metrics import IngestMetrics, served
from fleet_server.ingest.silence import Silence
from fleet_server.ingest.store import REFUSED_BY_DATABASE, Committed, Store
from fleet_server.serving import announce
from wire.topics import UP_FILTER

_log = structlog.get_logger()
_COMMIT_RETRY_S = 1.0
_SWEEP_S = 1.0
_SILENT_INTERVALS = 3


def run(config: Config) -> None:
    """Ingest until SIGTERM or SIGINT.

    Raises:
        ConfigError: another ingest runs on this data directory, or its files cannot be used.
    """
    with installation.only_ingest(config.layout):
        engine = db.open_engine(config.database)
        try:
            uvloop.run(_main(config, engine))
        except OSError as exc:
            raise ConfigError([f"ingest: {exc}"]) from exc
        finally:
            engine.dispose()


class Source(Protocol):
    """The part of the broker door that messages come through."""

    async def batch(self) -> list[Delivery]:
        """Wait for messages."""
        ...

    def ack(self, tokens: Iterable[Token]) -> None:
        """They are ours now."""
        ...


async def store_batches(
    door: Source,
    commit: Callable[[Sequence[Delivery]], Awaitable[Sequence[Committed]]],
    stored: Callable[[Sequence[Delivery], Sequence[Committed], float], None],
) -> None:
    """For ever: a batch, its commit, and only then its acknowledgement; then `stored` with how many seconds it took."""
    while True:
        deliveries = await door.batch()
        if not deliveries:
            continue
        started_s = time.perf_counter()
        done = await commit(deliveries)
        door.ack([delivery.token for delivery in deliveries])
        stored(deliveries, done, time.perf_counter() - started_s)


async def _main(config: Config, engine: sa.Engine) -> None:
    await Ingest(config, engine).run()


class Ingest:
    """The process's parts, wired to the real clock and to real chance."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        self._config = config
        self._metrics = IngestMetrics()
        self._store = Store(engine, new_id=_id_maker())
        layout = config.layout
        settings = ClientSettings(
            host=config.broker.host,
            port=config.broker.port,
            client_id=INGEST_NAME,
            filter=UP_FILTER,
            ca=layout.ca_certificate,
            certificate=layout.certificate("ingest"),
            key=layout.key("ingest"),
            max_packet_bytes=config.broker.max_packet_bytes,
            batch_messages=config.ingest.batch_messages,
            linger_s=config.ingest.linger_ms / 1000,
        )
        self._door = BrokerClient(settings, now_ms=_now_ms, chance=random.random, on_up=self._broker_up)
        self._marks = Marks(self._store, self._door, self._metrics, now_ms=_now_ms, tick_ms=_tick_ms)
        self._outbox = Outbox(engine, self._store, self._door, self._metrics, now_ms=_now_ms, tick_ms=_tick_ms)
        self._silence = Silence()
        self._ready = asyncio.Event()
        self._born: list[str] = []

    async def run(self) -> None:
        """Everything until a signal asks to stop. What is committed by then is acknowledged."""
        self._store.load()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with served(self._metrics, self._config.ingest.metrics_port), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(part)
                for part in (
                    self._door.run(), store_batches(self._door, self._commit, self._stored),
                    self._send_marks(), self._mark_all(), self._work_outbox(),
                    self._sweep(), self._announce(),
                )
            ]  # fmt: skip
            gc.collect()
            gc.freeze()
            await stop.wait()
            for task in tasks:
                task.cancel()
        _log.info("ingest_stopped")

    def _broker_up(self, session_present: bool) -> None:  # noqa: FBT001 - the door's callback
        """At the first connection, and whenever the broker has forgotten us, terminals must send again what we lack."""
        if not self._ready.is_set() or not session_present:
            self._marks.want(self._store.journals, resync=True)
        self._silence.listening(_tick_ms())
        self._ready.set()

    async def _announce(self) -> None:
        await self._ready.wait()
        port = self._config.ingest.metrics_port
        announce("ingest", url=f"http://127.0.0.1:{port}/metrics", port=port)

    def _stored(self, deliveries: Sequence[Delivery], done: Sequence[Committed], took_s: float) -> None:
        self._metrics.commit_s.observe(took_s)
        self._metrics.lag_s.observe(max(0, _now_ms() - deliveries[0].received_ms) / 1000)
        self._metrics.messages.inc(len(deliveries))
        self._metrics.batches.inc()
        for committed in done:
            self._follow(committed)

    async def _commit(self, deliveries: Sequence[Delivery]) -> list[Committed]:
        """Commit, and again until it works: not acknowledged, the broker holds everything back meanwhile."""
        one_by_one = False
        while True:
            try:
                if one_by_one:
                    return self._store.commit_each(deliveries, _now_ms())
                return [self._store.commit(deliveries, _now_ms())]
            except REFUSED_BY_DATABASE as exc:
                _log.error("batch_refused_by_database", reason=type(exc.orig).__name__, messages=len(deliveries))
                one_by_one = True
            except sa.exc.DBAPIError as exc:
                _log.error("commit_refused", reason=type(exc.orig).__name__)
                self._metrics.retries.inc()
                await asyncio.sleep(_COMMIT_RETRY_S)

    def _follow(self, committed: Committed) -> None:
        self._metrics.facts.inc(committed.facts_new)
        self._silence.heard(committed.heard, _tick_ms())
        for reason, count in committed.rejects.items():
            self._metrics.rejected.labels(reason).inc(count)
        self._marks.want(committed.advanced, resync=False)
        self._marks.want(committed.born, resync=True)
        self._born += [terminal for terminal, _ in committed.born]

    async def _send_marks(self) -> None:
        while True:
            await self._marks.wanted.wait()
            await self._marks.send_due()
            await asyncio.sleep(0.1)

    async def _mark_all(self) -> None:
        while True:
            await asyncio.sleep(self._config.ingest.mark_interval_s)
            self._marks.want_online()

    async def _work_outbox(self) -> None:
        while True:
            await asyncio.sleep(self._config.ingest.outbox_poll_ms / 1000)
            if not self._door.connected:
                continue
            born, self._born = self._born, []
            try:
                for terminal in dict.fromkeys(born):
                    await self._outbox.resend(terminal)
                await self._outbox.poll()
            except sa.exc.DBAPIError as exc:
                _log.error("outbox_refused", reason=type(exc.orig).__name__)
                self._born = born + self._born

    async def _sweep(self) -> None:
        limit_ms = self._config.ingest.health_interval_s * _SILENT_INTERVALS * 1000
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._metrics.connected.set(int(self._door.connected))
            if not self._door.connected:
                continue
            silent_ms = partial(self._silence.silent_ms, tick_ms=_tick_ms())
            try:
                lost = self._store.mark_silent(now_ms=_now_ms(), silent_ms=silent_ms, limit_ms=limit_ms)
            except sa.exc.DBAPIError as exc:
                _log.error("sweep_refused", reason=type(exc.orig).__name__)
                continue
            self._metrics.silent.inc(lost)


def _id_maker() -> Callable[[int], bytes]:
    counter = itertools.count()

    def make(at_ms: int) -> bytes:
        return ids.uuid7(at_ms, next(counter), os.urandom(ids.ENTROPY_BYTES))

    return make


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _tick_ms() -> int:
    return time.monotonic_ns() // 1_000_000
