"""What terminals are told: how far their facts are stored, and the open commands of the outbox.

Nothing here is state: a mark is made from what is committed at the moment of sending, and a command stays in the
outbox until its result is stored. So whatever is lost on the way is sent again. Waiting is measured in ticks, a clock
that only goes forward (`tick_ms`); the wall clock (`now_ms`) is for rows, messages and deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from fleet_server import db
from fleet_server.broker.door import Published
from fleet_server.ingest.metrics import IngestMetrics
from fleet_server.ingest.presence import LOST, ONLINE
from fleet_server.ingest.recall import JournalKey
from fleet_server.ingest.store import Store
from fleet_server.queries import data_version
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Command, CommandKind, Mark
from wire.topics import Down

MARK_EVERY_MS: Final = 1000
MARKS_AFTER_WILL_MS: Final = 180_000
"""At most one mark per journal in this time; births are answered at once."""
_CHUNK: Final = 64
_MARK_LIFE_S: Final = 60
_RESEND_AFTER_MS: Final = 2000
_GAP_PATIENCE: Final = 64
"""Intervals between asking again for facts that never come, at most."""
_PAGE: Final = 1000


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

    def __init__(
        self,
        store: Store,
        door: Publisher,
        metrics: IngestMetrics,
        *,
        now_ms: Callable[[], int],
        tick_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._door = door
        self._metrics = metrics
        self._now_ms = now_ms
        self._tick_ms = tick_ms
        self._due: dict[JournalKey, bool] = {}
        self._sent_tick_ms: dict[JournalKey, int] = {}
        self._gaps: dict[JournalKey, tuple[int, int]] = {}
        self._online_tick_ms: dict[str, int] = {}
        self.wanted = asyncio.Event()

    def want(self, keys: Iterable[JournalKey], *, resync: bool) -> None:
        """Tell the terminals of `keys` soon; with `resync`, at once, and to send everything above the mark again."""
        for key in keys:
            self._due[key] = self._due.get(key, False) or resync
        if self._due:
            self.wanted.set()

    def want_online(self) -> None:
        """Tell every terminal that is connected about its current journal, and those with a gap to send again: a full
        broker acknowledges a fact and drops it. Called once per mark interval.

        A will is only a hint that a terminal is gone: for a while after it marks still go out, so that whoever holds
        its certificate by then (the terminal itself, or a technician's tool) hears them.
        """
        tick_ms = self._tick_ms()
        for serial, row in self._store.seen.items():
            if row.presence == ONLINE:
                self._online_tick_ms[serial] = tick_ms
            online_tick_ms = self._online_tick_ms.get(serial)
            if row.presence not in (ONLINE, LOST) or online_tick_ms is None:
                continue
            if tick_ms - online_tick_ms < MARKS_AFTER_WILL_MS and row.journal:
                key = (serial, row.journal)
                self.want([key], resync=self._gap_is_due(key))

    def _gap_is_due(self, key: JournalKey) -> bool:
        """Whether to ask for what is missing below facts that are stored. Each time that the mark has not moved, after
        twice as many intervals: a fact that we refuse for ever must not make a terminal send its journal for ever."""
        if not self._store.has_gap(key):
            self._gaps.pop(key, None)
            return False
        stored = self._store.stored_through(key)
        before, passed = self._gaps.get(key, (-1, 0))
        passed = passed + 1 if before == stored else 0
        self._gaps[key] = (stored, passed)
        return passed & (passed - 1) == 0 or passed % _GAP_PATIENCE == 0

    async def send_due(self) -> None:
        """Send what is due and not too soon after the one before; what was not delivered for now stays due."""
        if not self._door.connected:
            return
        late_ms = self._tick_ms() - MARK_EVERY_MS
        ready = [key for key, resync in self._due.items() if resync or self._sent_tick_ms.get(key, late_ms) <= late_ms]
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
            self._sent_tick_ms[key] = self._tick_ms()


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
        tick_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._store = store
        self._door = door
        self._metrics = metrics
        self._now_ms = now_ms
        self._tick_ms = tick_ms
        self._version = -1
        self._first_deadline_ms: int | None = None
        self._tried_tick_ms: dict[tuple[str, bytes], int] = {}

    async def poll(self) -> None:
        """Close what has expired, and send what is new since the last poll to terminals that are online."""
        now_ms = self._now_ms()
        with db.reading(self._engine) as connection:
            version = data_version(connection)
            expired = self._first_deadline_ms is not None and self._first_deadline_ms <= now_ms
            if version == self._version and not self._tried_tick_ms and not expired:
                return
            self._first_deadline_ms = _first_deadline_ms(connection)
        self._version = version
        if self._first_deadline_ms is None:
            self._tried_tick_ms.clear()
            return
        if self._first_deadline_ms <= now_ms:
            self._close_expired(now_ms)
        still_open = set()
        after: tuple[str, bytes] | None = ("", b"")
        while after is not None:
            with db.reading(self._engine) as connection:
                rows = _open_online(connection, now_ms, after)
            still_open |= {(row.terminal, row.id) for row in rows}
            await self._send([row for row in rows if self._is_due(row)])
            after = (rows[-1].terminal, rows[-1].id) if len(rows) == _PAGE else None
        self._tried_tick_ms = {key: tried for key, tried in self._tried_tick_ms.items() if key in still_open}

    async def resend(self, terminal: str) -> None:
        """Send every open command of `terminal` again: it has just been born."""
        with db.reading(self._engine) as connection:
            rows = _open_of(connection, self._now_ms(), terminal)
        await self._send(rows)

    def _is_due(self, row: _Open) -> bool:
        tried = self._tried_tick_ms.get((row.terminal, row.id))
        if tried is None:
            # sent by the process before this one: nobody knows whether it arrived, and a repeat is harmless
            return True
        return row.sent_ms is None and self._tick_ms() - tried >= _RESEND_AFTER_MS

    async def _send(self, rows: list[_Open]) -> None:
        for at in range(0, len(rows), _CHUNK):
            chunk = rows[at : at + _CHUNK]
            outcomes = await asyncio.gather(*map(self._send_one, chunk))
            stored = [
                row for row, outcome in zip(chunk, outcomes, strict=True)
                if outcome is Published.STORED and row.sent_ms is None
            ]  # fmt: skip
            if stored:
                self._note_sent(stored)

    async def _send_one(self, row: _Open) -> Published:
        self._tried_tick_ms[row.terminal, row.id] = self._tick_ms()
        command = Command(id=row.id, kind=CommandKind(row.kind), not_after_ms=row.not_after_ms)
        topic = topics.down(row.terminal, Down.COMMAND)
        life_s = max(1, (row.not_after_ms - self._now_ms()) // 1000)
        outcome = await self._door.publish(topic, fields.encode(command), expiry_s=life_s)
        self._metrics.published.labels("command", outcome.name.lower()).inc()
        return outcome

    def _note_sent(self, rows: list[_Open]) -> None:
        now_ms = self._now_ms()
        table = db.commands.c
        mine = sa.and_(table.terminal == sa.bindparam("of"), table.id == sa.bindparam("this"))
        with db.writing(self._engine) as connection:
            connection.execute(
                sa.update(db.commands).where(mine).values(sent_ms=now_ms),
                [{"of": row.terminal, "this": row.id} for row in rows],
            )

    def _close_expired(self, now_ms: int) -> None:
        table = db.commands.c
        with db.writing(self._engine) as connection:
            connection.execute(
                sa.update(db.commands)
                .where(table.result.is_(None), table.not_after_ms <= now_ms)
                .values(result=int(Failure.COMMAND_EXPIRED), result_ms=now_ms)
            )


def _first_deadline_ms(connection: sa.Connection) -> int | None:
    """When the first open command expires; None: no command is open."""
    query = sa.select(sa.func.min(db.commands.c.not_after_ms)).where(db.commands.c.result.is_(None))
    found: int | None = connection.execute(query).scalar_one()
    return found


def _open_online(connection: sa.Connection, now_ms: int, after: tuple[str, bytes]) -> list[_Open]:
    """One page of the open commands of terminals that are online, those after (terminal, id)."""
    table = db.commands.c
    query = (
        _select_open(now_ms)
        .join(db.terminals, db.terminals.c.serial == table.terminal)
        .where(db.terminals.c.presence == ONLINE, sa.tuple_(table.terminal, table.id) > sa.tuple_(*after))
        .limit(_PAGE)
    )
    return [_Open(*row) for row in connection.execute(query)]


def _open_of(connection: sa.Connection, now_ms: int, terminal: str) -> list[_Open]:
    query = _select_open(now_ms).where(db.commands.c.terminal == terminal).limit(_PAGE)
    return [_Open(*row) for row in connection.execute(query)]


def _select_open(now_ms: int) -> sa.Select[Any]:
    table = db.commands.c
    return (
        sa.select(table.terminal, table.id, table.kind, table.not_after_ms, table.sent_ms)
        .where(table.result.is_(None), table.not_after_ms > now_ms)
        .order_by(table.terminal, table.id)
    )
