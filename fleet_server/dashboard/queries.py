"""The reads that only the pages need; everything else is in `fleet_server.queries`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from fleet_server import db, queries
from fleet_server.queries import Certificate, Event, OutboxRow, StoredFact, StoredJournal, Terminal

PAGE_SIZE: Final = 50
FACTS_SHOWN: Final = 12
EVENTS_SHOWN: Final = 30
ANOMALIES_SHOWN: Final = 10
COMMANDS_SHOWN: Final = 5
_NOT_SERIAL: Final = re.compile(r"[^a-z0-9-]")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of terminals. `next_after` asks for the one after it; None: this is the last."""

    items: list[Terminal]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything that the page of one terminal shows, read in one snapshot."""

    terminal: Terminal
    certificates: list[Certificate]
    facts_count: int
    facts: list[StoredFact]
    journals: list[StoredJournal]
    timeline: list[Event]
    anomalies: list[Event]
    commands: list[OutboxRow]


def clean_prefix(typed: str) -> str:
    """What was typed, as the start of a serial."""
    return _NOT_SERIAL.sub("", typed.strip().lower())[:40]


def find_terminals(
    connection: sa.Connection, *, prefix: str = "", after: str = "", presence: str | None = None, limit: int = PAGE_SIZE
) -> Page:
    """Terminals whose serial begins with `prefix`, by serial, those after `after`."""
    limit = max(1, min(limit, queries.MAX_PAGE - 1))
    found = queries.list_terminals(connection, prefix=prefix, after=after, limit=limit + 1, presence=presence)
    items = found[:limit]
    return Page(items, items[-1].serial if len(found) > limit else None)


def read_detail(connection: sa.Connection, serial: str) -> Detail:
    """One terminal with everything around it.

    Raises:
        UnknownTerminalError: there is none.
    """
    return Detail(
        terminal=queries.terminal(connection, serial),
        certificates=queries.certificates(connection, serial),
        facts_count=queries.count_facts(connection, serial),
        facts=queries.facts(connection, serial, limit=FACTS_SHOWN),
        journals=queries.journals(connection, serial),
        timeline=queries.timeline(connection, serial, limit=EVENTS_SHOWN),
        anomalies=queries.anomalies(connection, serial, limit=ANOMALIES_SHOWN),
        commands=queries.commands(connection, serial, limit=COMMANDS_SHOWN),
    )


def newest_message_ms(connection: sa.Connection) -> int | None:
    """When any terminal was last heard."""
    found: int | None = connection.execute(sa.select(sa.func.max(db.terminals.c.last_seen_ms))).scalar_one()
    return found
