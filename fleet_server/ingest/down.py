"""What terminals are told: how far their facts are stored, and the open commands of the outbox.

Nothing here is state: a mark is made from what is committed at the moment of sending, and a command stays in the
outbox until its result is stored. So whatever is lost on the way is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

import sqlalchemy as sa

from fleet_server import db
from fleet_server.broker.door import Published
from fleet_server.ingest.metrics import IngestMetrics
from fleet_server.ingest.presence import ONLINE
from fleet_server.ingest.recall import JournalKey
from fleet_server.ingest.store import Store
from fleet_server.queries import data_version
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Command, CommandKind, Mark
from wire.topics import Down

MARK_EVERY_MS: Final = 1000
"""At most one mark per journal in this time; births are answered at once."""
_CHUNK: Final = 64
_MARK_LIFE_S: Final = 60
_RESEND_AFTER_MS: Final = 2000
_SWEEP_MAX: Final = 1000


class Publisher(Protocol):
    """The part of the broker door that is needed here."""

    @property
    def connected(self) -> bool:
        """Whether publishing has a chance just now."""
        ...

    async def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> Published:
        """Once, QoS 1; see `Published`."""
        ...


class _Open(NamedTuple):
    """An open command of the outbox."""

    terminal: str
    id: bytes
    kind: int
    not_after_ms: int
    sent_ms: int | None


class Marks:
    """Marks that are due. Later wishes for the same journal merge into one."""

    def __init__(self, store: Store, door: Publisher, metrics: IngestMetrics, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._door = door
        self._metrics = metrics
        self._now_ms = now_ms
        self._due: dict[JournalKey, bool] = {}
        self._sent_ms: dict[JournalKey, int] = {}
        self.wanted = asyncio.Event()

    def want(self, keys: Iterable[JournalKey], *, resync: bool) -> None:
        """Tell the terminals of `keys` soon; with `resync`, at once, and to send everything above the mark again."""
        for key in keys:
            self._due[key] = self._due.get(key, False) or resync
        if self._due:
            self.wanted.set()

    def want_online(self) -> None:
        """Tell every terminal that is connected about its current journal."""
        seen = self._store.seen.items()
        self.want(
            [(serial, row.journal) for serial, row in seen if row.presence == ONLINE and row.journal], resync=False
        )

    async def send_due(self) -> None:
        """Send what is due and not too soon after the one before; what was not delivered for now stays due."""
        if not self._door.connected:
            return
        now_ms = self._now_ms()
        ready = [
            key for key, resync in self._due.items() if resync or now_ms - self._sent_ms.get(key, 0) >= MARK_EVERY_MS
        ]
        for at in range(0, len(ready), _CHUNK):
            chunk = [(key, self._due.pop(key)) for key in ready[at : at + _CHUNK] if key in self._due]
            await asyncio.gather(*(self._send(key, resync=resync) for key, resync in chunk))
        if not self._due:
            self.wanted.clear()

    async def _send(self, key: JournalKey, *, resync: bool) -> None:
        terminal, journal = key
        mark = Mark(journal=journal, stored=self._store.stored_through(key), server_ms=self._now_ms(), resync=resync)
        topic = topics.down(terminal, Down.MARK)
        outcome = await self._door.publish(topic, fields.encode(mark), expiry_s=_MARK_LIFE_S)
        self._metrics.published.labels("mark", outcome.name.lower()).inc()
        if outcome is Published.RETRY:
            self.want([key], resync=resync)
        else:
            self._sent_ms[key] = self._now_ms()


class Outbox:
    """Sends open commands to terminals that are there: on their birth, and when new ones appear."""

    def __init__(
        self,
        engine: sa.Engine,
        store: Store,
        door: Publisher,
        metrics: IngestMetrics,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._store = store
        self._door = door
        self._metrics = metrics
        self._now_ms = now_ms
        self._version = -1
        self._tried_ms: dict[tuple[str, bytes], int] = {}

    async def poll(self) -> None:
        """Close what has expired, and send what is new since the last poll to terminals that are online."""
        with db.reading(self._engine) as connection:
            version = data_version(connection)
            if version == self._version and not self._tried_ms:
                return
            rows = _open_commands(connection, None)
        self._version = version
        now_ms = self._now_ms()
        expired = [row for row in rows if row.not_after_ms <= now_ms]
        if expired:
            self._close_expired(expired, now_ms)
        open_now = {(row.terminal, row.id) for row in rows if row.not_after_ms > now_ms}
        self._tried_ms = {key: tried for key, tried in self._tried_ms.items() if key in open_now}
        for row in rows:
            if row.not_after_ms > now_ms and self._is_due(row, now_ms):
                await self._send(row, now_ms)

    async def resend(self, terminal: str) -> None:
        """Send every open command of `terminal` again: it has just been born."""
        with db.reading(self._engine) as connection:
            rows = _open_commands(connection, terminal)
        now_ms = self._now_ms()
        for row in rows:
            if row.not_after_ms > now_ms:
                await self._send(row, now_ms)

    def _is_due(self, row: _Open, now_ms: int) -> bool:
        seen = self._store.seen.get(row.terminal)
        if seen is None or seen.presence != ONLINE:
            return False
        tried = self._tried_ms.get((row.terminal, row.id))
        if tried is None:
            # sent by the process before this one: nobody knows whether it arrived, and a repeat is harmless
            return True
        return row.sent_ms is None and now_ms - tried >= _RESEND_AFTER_MS

    async def _send(self, row: _Open, now_ms: int) -> None:
        self._tried_ms[row.terminal, row.id] = now_ms
        command = Command(id=row.id, kind=CommandKind(row.kind), not_after_ms=row.not_after_ms)
        topic = topics.down(row.terminal, Down.COMMAND)
        life_s = max(1, (row.not_after_ms - now_ms) // 1000)
        outcome = await self._door.publish(topic, fields.encode(command), expiry_s=life_s)
        self._metrics.published.labels("command", outcome.name.lower()).inc()
        if outcome is Published.STORED and row.sent_ms is None:
            table = db.commands.c
            with db.writing(self._engine) as connection:
                connection.execute(
                    sa.update(db.commands)
                    .where(table.terminal == row.terminal, table.id == row.id)
                    .values(sent_ms=self._now_ms())
                )

    def _close_expired(self, rows: list[_Open], now_ms: int) -> None:
        table = db.commands.c
        with db.writing(self._engine) as connection:
            for row in rows:
                connection.execute(
                    sa.update(db.commands)
                    .where(table.terminal == row.terminal, table.id == row.id, table.result.is_(None))
                    .values(result=int(Failure.COMMAND_EXPIRED), result_ms=now_ms)
                )


def _open_commands(connection: sa.Connection, terminal: str | None) -> list[_Open]:
    table = db.commands.c
    query = sa.select(table.terminal, table.id, table.kind, table.not_after_ms, table.sent_ms)
    query = query.where(table.result.is_(None)).order_by(table.terminal, table.id).limit(_SWEEP_MAX)
    if terminal is not None:
        query = query.where(table.terminal == terminal)
    return [_Open(*row) for row in connection.execute(query)]
