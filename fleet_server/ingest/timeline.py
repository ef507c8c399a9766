"""The timeline's rows, bounded: the newest of every terminal, so one that comes and goes all day fills nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from fleet_server import db

KEPT_PER_TERMINAL: Final = 1000


class TimelineBook:
    """Writes rows of `db.timeline` in the caller's transaction. Counts in memory what is kept; a transaction that is
    rolled back makes it look into the table sooner, and the few rows of listing and enrolling come on top."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}

    def write(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert `rows`, then delete the oldest of each of their terminals beyond `KEPT_PER_TERMINAL`."""
        if not rows:
            return
        connection.execute(sa.insert(db.timeline), rows)
        for terminal, added in Counter(row["terminal"] for row in rows).items():
            known = self._kept.get(terminal)
            kept = _count(connection, terminal) if known is None else known + added
            if kept > KEPT_PER_TERMINAL:
                _keep_newest(connection, terminal)
            self._kept[terminal] = min(kept, KEPT_PER_TERMINAL)


def _count(connection: sa.Connection, terminal: str) -> int:
    query = sa.select(sa.func.count()).select_from(db.timeline).where(db.timeline.c.terminal == terminal)
    return int(connection.execute(query).scalar_one())


def _keep_newest(connection: sa.Connection, terminal: str) -> None:
    table = db.timeline.c
    mine = table.terminal == terminal
    oldest_kept = sa.select(table.id).where(mine).order_by(table.id.desc()).offset(KEPT_PER_TERMINAL - 1).limit(1)
    connection.execute(sa.delete(db.timeline).where(mine, table.id < oldest_kept.scalar_subquery()))
