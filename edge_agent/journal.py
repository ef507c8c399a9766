"""The journal: append-only facts on disk, and at once the outbox and the office's book of visits.

The only file of the agent that uses SQLite. A fact exists when `append` or `end_visit` returns: the transaction is
committed with ``synchronous=FULL`` in WAL mode, because WAL with NORMAL may lose the last commits at a power cut.
(journal id, seq) names a fact for ever; the id is drawn when the file is made, so a replaced disk cannot reuse numbers.

A fact is *unsent*, then *sent* (the broker has acknowledged it), then *stored* (the fleet server's mark has reached
it). Stored facts stay `keep_s` longer, so that a server restored from a backup can ask for them again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import structlog

from edge_agent.errors import JournalError, JournalFullError
from wire import fields
from wire.messages import Fact, FactKind, Mark

_log = structlog.get_logger()
T = TypeVar("T")

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    body BLOB NOT NULL,
    sent_ms INTEGER,
    stored_ms INTEGER
);
CREATE INDEX facts_unsent ON facts (seq) WHERE sent_ms IS NULL;
CREATE TABLE visits (
    visit TEXT PRIMARY KEY,
    audience TEXT NOT NULL,
    idempotency_key TEXT,
    opened_ms INTEGER NOT NULL,
    request BLOB NOT NULL,
    ended_seq INTEGER,
    outcome INTEGER,
    result BLOB
) WITHOUT ROWID;
CREATE UNIQUE INDEX visits_once ON visits (audience, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX visits_open ON visits (opened_ms) WHERE ended_seq IS NULL;
PRAGMA user_version = 1;
"""

RESEND_AFTER_MS: Final = 180_000
"""Three of the server's mark intervals."""
RESEND_AT_ONCE: Final = 1000
"""A fact that the server refuses for good must not bring the whole journal along every time."""

_VISIT_ROW: Final = "SELECT visit, audience, opened_ms, request, ended_seq, result FROM visits"


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """`max_bytes` is where visits stop; the file itself may grow an eighth further, so that an end can be written."""

    max_bytes: int = 64 * 1024 * 1024
    max_facts: int = 200_000
    keep_s: int = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class OpenedVisit:
    """A visit as it was opened, and as it ended. `request` and `result` are the station's own CBOR."""

    visit: str
    audience: str
    opened_ms: int
    request: bytes
    ended_seq: int | None
    result: bytes | None


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """For health and for the page."""

    unsent: int
    kept: int
    used_bytes: int
    first_seq: int
    last_seq: int
    allocated: int
    """The highest number ever given, whether its fact is still here or not."""


class Journal:
    """One file, one connection, one thread. Every method is a transaction.

    `unsent_added` is set whenever there may be something to send; the uplink clears it before it looks.
    """

    def __init__(self, path: Path, limits: JournalLimits, chance: Callable[[int], bytes] = os.urandom) -> None:
        self._limits = limits
        self._chance = chance
        self._lock = _lock(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        try:
            self._db = self._thread.submit(_open, path, limits, chance).result()
        except JournalError:
            os.close(self._lock)
            raise
        self.id: bytes = self._thread.submit(_journal_id, self._db).result()
        self.unsent_added = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._run(self._db.close)
        self._thread.shutdown()
        os.close(self._lock)

    async def check_room(self) -> None:
        """Raises JournalFullError when no visit may start any more."""
        figures = await self.figures()
        if figures.used_bytes >= self._limits.max_bytes or figures.kept >= self._limits.max_facts:
            raise JournalFullError("the journal is at its limit")

    async def append(self, kind: FactKind, at_ms: int, **values: Any) -> Fact:
        """Commit one fact; `values` are the fields of `wire.messages.Fact`.

        Raises:
            JournalError: it could not be committed; nothing may be shown as done.
        """
        fact = await self._run(self._append, kind, at_ms, values)
        self.unsent_added.set()
        return fact

    async def open_visit(
        self, visit: str, audience: str, idempotency_key: str | None, opened_ms: int, request: bytes
    ) -> OpenedVisit:
        """Write down that a visit begins, before anybody outside learns of it.

        A repeated (audience, idempotency key) gives the visit that was opened first, unchanged.
        """
        return await self._run(self._open_visit, visit, audience, idempotency_key, opened_ms, request)

    async def end_visit(self, visit: str, at_ms: int, result: bytes, **values: Any) -> Fact:
        """Commit the end of `visit`: its result for the office and the fact for the fleet, in one transaction.

        Raises:
            JournalError: it could not be committed, or the visit is unknown or has ended.
        """
        fact = await self._run(self._end_visit, visit, at_ms, result, values)
        self.unsent_added.set()
        return fact

    async def visit(self, visit: str) -> OpenedVisit | None:
        """The visit with this id."""
        return await self._run(self._visit, "visit = ?", visit)

    async def visit_by_key(self, audience: str, idempotency_key: str) -> OpenedVisit | None:
        """The visit that `audience` opened with this key."""
        return await self._run(self._visit, "audience = ? AND idempotency_key = ?", audience, idempotency_key)

    async def unended_visits(self) -> list[OpenedVisit]:
        """Visits that a crash interrupted, oldest first."""
        rows = f"{_VISIT_ROW} WHERE ended_seq IS NULL ORDER BY opened_ms"
        return await self._run(lambda: [OpenedVisit(*row) for row in self._db.execute(rows)])

    async def visits_done_since(self, since_ms: int) -> int:
        """How many visits that began at or after `since_ms` gave an assertion."""
        return await self._run(
            lambda: _one(self._db, "SELECT count(*) FROM visits WHERE outcome = 0 AND opened_ms >= ?", since_ms)
        )

    async def unsent(self, after_seq: int, count: int) -> list[tuple[int, bytes]]:
        """Up to `count` unsent facts above `after_seq`, oldest first, as the bytes that go on the wire."""
        return await self._run(
            lambda: self._db.execute(
                "SELECT seq, body FROM facts WHERE sent_ms IS NULL AND seq > ? ORDER BY seq LIMIT ?", (after_seq, count)
            ).fetchall()
        )

    async def mark_sent(self, seq: int, at_ms: int) -> None:
        """The broker has acknowledged fact `seq` at `at_ms`."""
        await self._run(self._commit, "UPDATE facts SET sent_ms = ? WHERE seq = ?", at_ms, seq)

    async def apply_mark(self, mark: Mark, now_ms: int) -> bool:
        """Take over how far the server has stored, and make unsent what it should have stored and has not.

        That is everything above the mark if the server asks, or has less than it once said; and always the oldest of
        what was sent more than `RESEND_AFTER_MS` ago, because a broker may acknowledge what it then drops from a full
        queue. With `now_ms` 0, when nobody has said the time yet, nothing is taken for stored: it could not be dated.

        False: the server has more of this journal than was ever written to it, so this file is an older copy of
        itself. It has taken a new id, and the connection must begin anew with it.
        """
        if mark.journal != self.id:
            return True
        if mark.stored > (await self.figures()).allocated:
            _log.error("journal_went_back", stored=mark.stored)
            self.id = await self._run(self._begin_anew)
            return False
        resend = await self._run(self._apply_mark, mark, now_ms)
        if resend:
            _log.info("facts_to_resend", count=resend)
            self.unsent_added.set()
        return True

    async def prune(self, now_ms: int) -> int:
        """Delete facts and visits that were stored more than `keep_s` ago; returns how many facts went."""
        return await self._run(self._prune, now_ms - self._limits.keep_s * 1000)

    async def next_session(self) -> int:
        """The number of the next connection; grows for the life of the journal."""
        return await self._run(self._next_session)

    async def figures(self) -> JournalFigures:
        return await self._run(self._figures)

    def _append(self, kind: FactKind, at_ms: int, values: dict[str, Any]) -> Fact:
        with self._db:
            return self._insert_fact(kind, at_ms, values)

    def _insert_fact(self, kind: FactKind, at_ms: int, values: dict[str, Any]) -> Fact:
        seq = 1 + self._allocated()
        fact = Fact(journal=self.id, seq=seq, kind=kind, at_ms=at_ms, **values)
        self._db.execute("INSERT INTO facts (seq, body) VALUES (?, ?)", (seq, fields.encode(fact)))
        return fact

    def _open_visit(
        self, visit: str, audience: str, idempotency_key: str | None, opened_ms: int, request: bytes
    ) -> OpenedVisit:
        with self._db:
            self._db.execute(
                "INSERT INTO visits (visit, audience, idempotency_key, opened_ms, request) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (visit, audience, idempotency_key, opened_ms, request),
            )
            row = self._db.execute(
                f"{_VISIT_ROW} WHERE visit = ? OR (audience = ? AND idempotency_key = ?)",
                (visit, audience, idempotency_key),
            ).fetchone()
        return OpenedVisit(*row)

    def _end_visit(self, visit: str, at_ms: int, result: bytes, values: dict[str, Any]) -> Fact:
        with self._db:
            fact = self._insert_fact(FactKind.VISIT_ENDED, at_ms, values)
            ended = self._db.execute(
                "UPDATE visits SET ended_seq = ?, outcome = ?, result = ? WHERE visit = ? AND ended_seq IS NULL",
                (fact.seq, fact.outcome, result, visit),
            )
            if ended.rowcount != 1:
                raise JournalError("the visit is unknown or has already ended")
            return fact

    def _visit(self, where: str, *values: object) -> OpenedVisit | None:
        row = self._db.execute(f"{_VISIT_ROW} WHERE {where}", values).fetchone()
        return OpenedVisit(*row) if row else None

    def _apply_mark(self, mark: Mark, now_ms: int) -> int:
        with self._db:
            believed = _one(self._db, "SELECT coalesce(max(seq), 0) FROM facts WHERE stored_ms IS NOT NULL")
            if now_ms:
                self._db.execute(
                    "UPDATE facts SET sent_ms = coalesce(sent_ms, ?), stored_ms = ?"
                    " WHERE seq <= ? AND stored_ms IS NULL",
                    (now_ms, now_ms, mark.stored),
                )
            if mark.resync or mark.stored < believed:
                return self._db.execute(
                    "UPDATE facts SET sent_ms = NULL, stored_ms = NULL WHERE seq > ? AND sent_ms IS NOT NULL",
                    (mark.stored,),
                ).rowcount
            return self._db.execute(
                "UPDATE facts SET sent_ms = NULL WHERE seq IN"
                " (SELECT seq FROM facts WHERE seq > ? AND sent_ms < ? ORDER BY seq LIMIT ?)",
                (mark.stored, now_ms - RESEND_AFTER_MS, RESEND_AT_ONCE),
            ).rowcount

    def _begin_anew(self) -> bytes:
        """A new id; what was never sent goes under it, what was sent is on the server under the old one."""
        with self._db:
            journal = self._chance(16)
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'journal'", (journal,))
            self._db.execute("DELETE FROM facts WHERE sent_ms IS NOT NULL")
            for seq, body in self._db.execute("SELECT seq, body FROM facts").fetchall():
                fact = msgspec.structs.replace(fields.decode(body, Fact), journal=journal)
                self._db.execute("UPDATE facts SET body = ? WHERE seq = ?", (fields.encode(fact), seq))
        return journal

    def _prune(self, before_ms: int) -> int:
        with self._db:
            gone = self._db.execute("DELETE FROM facts WHERE stored_ms < ?", (before_ms,)).rowcount
            self._db.execute("DELETE FROM visits WHERE ended_seq < (SELECT coalesce(min(seq), 0) FROM facts)")
            return gone

    def _next_session(self) -> int:
        with self._db:
            self._db.execute("UPDATE meta SET value = value + 1 WHERE name = 'session'")
            return _one(self._db, "SELECT value FROM meta WHERE name = 'session'")

    def _figures(self) -> JournalFigures:
        unsent = _one(self._db, "SELECT count(*) FROM facts WHERE sent_ms IS NULL")
        kept, first, last = self._db.execute(
            "SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM facts"
        ).fetchone()
        pages = _one(self._db, "PRAGMA page_count") - _one(self._db, "PRAGMA freelist_count")
        used = pages * _one(self._db, "PRAGMA page_size")
        return JournalFigures(unsent, kept, used, first, last, self._allocated())

    def _allocated(self) -> int:
        return _one(self._db, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'facts'), 0)")

    def _commit(self, statement: str, *values: object) -> None:
        with self._db:
            self._db.execute(statement, values)

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        except sqlite3.Error as exc:
            raise JournalError(f"{type(exc).__name__} in the journal") from exc


def _lock(path: Path) -> int:
    """The right to this journal, until the descriptor is closed or the process ends.

    Raises:
        JournalError: another agent has it, or the directory cannot be written.
    """
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise JournalError(f"{type(exc).__name__} at the journal's lock") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise JournalError("another agent is running with this journal") from exc
    return descriptor


def _open(path: Path, limits: JournalLimits, chance: Callable[[int], bytes]) -> sqlite3.Connection:
    """Open or make the file. Runs on the journal's own thread, where the connection stays."""
    try:
        db = sqlite3.connect(path, isolation_level="IMMEDIATE")
        path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        page = _one(db, "PRAGMA page_size")
        db.execute(f"PRAGMA max_page_count = {limits.max_bytes // page * 9 // 8}")
        match _one(db, "PRAGMA user_version"):
            case 0:
                with db:
                    db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
                    db.execute("INSERT INTO meta VALUES ('journal', ?), ('session', 0)", (chance(16),))
            case 1:
                pass
            case newer:
                raise JournalError(f"the journal was written by a newer agent (version {newer})")
    except (sqlite3.Error, OSError) as exc:
        raise JournalError(f"{type(exc).__name__} while opening the journal") from exc
    return db


def _journal_id(db: sqlite3.Connection) -> bytes:
    return bytes(db.execute("SELECT value FROM meta WHERE name = 'journal'").fetchone()[0])


def _one(db: sqlite3.Connection, query: str, *values: object) -> int:
    return int(db.execute(query, values).fetchone()[0])
