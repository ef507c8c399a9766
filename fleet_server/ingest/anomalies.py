"""What should not have happened, kept for people to read, and bounded: a terminal that goes wild fills nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from fleet_server import db

KEPT_PER_KIND: Final = 100
"""Rows per terminal and kind; further ones are only counted in the metrics."""


class AnomalyBook:
    """Writes rows of `db.anomalies` in the caller's transaction. `new_id` gives a row id for a time in ms."""

    def __init__(self, new_id: Callable[[int], bytes]) -> None:
        self._new_id = new_id
        self._full: set[tuple[str, str]] = set()

    def note(self, connection: sa.Connection, terminal: str, at_ms: int, kind: str, detail: dict[str, Any]) -> None:
        """Keep one anomaly of `terminal`, unless `KEPT_PER_KIND` of its `kind` are kept already."""
        if (terminal, kind) in self._full:
            return
        table = db.anomalies.c
        count = sa.select(sa.func.count()).select_from(db.anomalies)
        kept = connection.execute(count.where(table.terminal == terminal, table.kind == kind)).scalar_one()
        if kept >= KEPT_PER_KIND:
            self._full.add((terminal, kind))
            return
        connection.execute(
            sa.insert(db.anomalies).values(
                terminal=terminal, id=self._new_id(at_ms), at_ms=at_ms, kind=kind, detail=detail
            )
        )
