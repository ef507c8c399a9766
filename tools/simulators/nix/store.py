"""The exchange's door to SQLite: its trace log, the trace ids it has seen, the codes it has issued.

The log holds the clear header of each request and whether it was handed on. There is no column for an answer.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from tools.simulators.party import files
from wire.inquiry import TraceHeader

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL, from_agency TEXT NOT NULL, to_agency TEXT NOT NULL, service TEXT NOT NULL,
    legal_basis TEXT NOT NULL, office_class TEXT NOT NULL, at_ms INTEGER NOT NULL, size_bucket INTEGER NOT NULL,
    body_hash BLOB NOT NULL, bucket_ms INTEGER NOT NULL, forwarded INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS seen (
    terminal BLOB NOT NULL, trace_id BLOB NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (terminal, trace_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_at ON seen (at_ms);
CREATE TABLE IF NOT EXISTS code (tracking_code TEXT PRIMARY KEY, bucket_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_LOG_COLUMNS = (
    "trace_id", "from_agency", "to_agency", "service", "legal_basis", "office_class", "at_ms", "size_bucket",
    "body_hash", "bucket_ms", "forwarded",
)  # fmt: skip


class Store:
    """One connection, used by one thread. Every method commits before it returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OSError, sqlite3.Error: it cannot be; the simulator does not start.
        """
        self._db = sqlite3.connect(files.private_file(path), isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def first_seen(self, terminal: bytes, trace_id: bytes, *, at_ms: int, forget_before_ms: int) -> bool:
        """Note a trace id; False if this terminal used it before. Ids older than `forget_before_ms` are dropped."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM seen WHERE at_ms < ?", (forget_before_ms,))
            cursor = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (terminal, trace_id, at_ms))
            return cursor.rowcount == 1

    def log(self, header: TraceHeader, *, bucket_ms: int, forwarded: bool) -> int:
        """Write one request down; returns the row's id."""
        values = [*(getattr(header, name) for name in _LOG_COLUMNS[:9]), bucket_ms, int(forwarded)]
        places = ", ".join("?" * len(values))
        statement = f"INSERT INTO log ({', '.join(_LOG_COLUMNS)}) VALUES ({places})"  # noqa: S608  fixed names
        row = self._db.execute(statement, values).lastrowid
        return row or 0

    def not_forwarded(self, row: int) -> None:
        """The registry could not be reached at all, so the request of `row` was not handed on after all."""
        self._db.execute("UPDATE log SET forwarded = 0 WHERE id = ?", (row,))

    def keep_code(self, tracking_code: str, *, bucket_ms: int) -> bool:
        """Note a code of the exchange's own; False if it exists already."""
        cursor = self._db.execute("INSERT OR IGNORE INTO code VALUES (?, ?)", (tracking_code, bucket_ms))
        return cursor.rowcount == 1

    def page(self, *, after: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` log rows after row id `after`, oldest first; bytes as hexadecimal."""
        statement = f"SELECT id, {', '.join(_LOG_COLUMNS)} FROM log WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  fixed names
        names = ("id", *_LOG_COLUMNS)
        return [
            {name: value.hex() if isinstance(value, bytes) else value for name, value in zip(names, row, strict=True)}
            for row in self._db.execute(statement, (after, limit))
        ]
