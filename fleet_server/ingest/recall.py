"""What the ingest reads back from its tables: the newest rows, the watermarks, the hashes of stored facts."""

from __future__ import annotations

import dataclasses
from typing import Final, TypeAlias

import sqlalchemy as sa

from fleet_server import db
from fleet_server.ingest.batch import FactRow
from fleet_server.ingest.presence import COLUMNS, Seen
from fleet_server.ingest.watermark import ISLANDS_MAX, Watermark

JournalKey: TypeAlias = tuple[str, bytes]
"""(terminal, journal)"""
_IN_CHUNK: Final = 500


def load_seen(connection: sa.Connection, serials: set[str] | None) -> dict[str, Seen]:
    """The newest of the terminals `serials` that are listed; None: of all."""
    columns = [db.terminals.c[name] for name in COLUMNS]
    query = sa.select(db.terminals.c.serial, *columns)
    if serials is None:
        rows = connection.execute(query).all()
    else:
        rows = []
        ordered = sorted(serials)
        for at in range(0, len(ordered), _IN_CHUNK):
            part = query.where(db.terminals.c.serial.in_(ordered[at : at + _IN_CHUNK]))
            rows += connection.execute(part).all()
    return {row[0]: Seen(*row[1:]) for row in rows}


def load_mark(connection: sa.Connection, key: JournalKey) -> Watermark:
    """The watermark of a journal, with what is stored beyond its first gap."""
    table = db.journals.c
    row = connection.execute(
        sa.select(table.stored_through).where(table.terminal == key[0], table.journal == key[1])
    ).first()
    return load_islands(connection, key, 0 if row is None else row.stored_through)


def load_islands(connection: sa.Connection, key: JournalKey, stored: int) -> Watermark:
    """The watermark from what the table holds above `stored`, at most so much that `ISLANDS_MAX` cannot be passed."""
    table = db.facts.c
    query = (
        sa.select(table.seq)
        .where(table.terminal == key[0], table.journal == key[1], table.seq > stored)
        .order_by(table.seq)
        .limit(_IN_CHUNK)
    )
    mark = Watermark(stored)
    while len(mark.islands) < ISLANDS_MAX:
        last = mark.islands[-1][1] if mark.islands else mark.stored
        seqs = list(connection.execute(query.where(table.seq > last)).scalars())
        if not seqs:
            return mark
        mark = mark.with_stored(seqs)
    return dataclasses.replace(mark, complete=False)


def other_bytes(connection: sa.Connection, rows: list[FactRow]) -> list[FactRow]:
    """Those of `rows` whose key is stored with another hash."""
    by_journal: dict[JournalKey, dict[int, FactRow]] = {}
    for row in rows:
        by_journal.setdefault((row.terminal, row.journal), {})[row.seq] = row
    table = db.facts.c
    different = []
    for (terminal, journal), wanted in by_journal.items():
        seqs = sorted(wanted)
        for at in range(0, len(seqs), _IN_CHUNK):
            query = sa.select(table.seq, table.body_hash).where(
                table.terminal == terminal, table.journal == journal, table.seq.in_(seqs[at : at + _IN_CHUNK])
            )
            different += [
                wanted[seq] for seq, stored in connection.execute(query).all() if stored != wanted[seq].body_hash
            ]
    return different
