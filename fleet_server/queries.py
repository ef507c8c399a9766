"""Everything that pages, APIs and metrics read about the fleet, and the commands that a person may give.

Every function takes an open connection (`db.reading`, `db.writing`) and returns values. Every list is paged by key,
newest first or by serial, with a limit that the caller cannot raise above `MAX_PAGE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from fleet_server import db
from fleet_server.errors import RequestRefusedError
from wire.fields import decode
from wire.messages import CommandKind, Fact

MAX_PAGE: Final = 200
COMMAND_LIFE_MS: Final = 10 * 60 * 1000
_NO_ID: Final = b"\xff" * 16


class UnknownTerminalError(RequestRefusedError):
    """No such terminal (HTTP 404)."""

    def __init__(self) -> None:
        super().__init__("no such terminal")


@dataclass(frozen=True, slots=True)
class Terminal:
    """A row of `db.terminals`. None: never reported."""

    serial: str
    added_ms: int
    enrolled_ms: int | None
    presence: str
    """``never``, ``online``, ``left`` (said goodbye) or ``lost``."""
    last_seen_ms: int | None
    boot: str | None
    """Hexadecimal, as `journal`."""
    session: int | None
    journal: str | None
    agent: str | None
    profile: str | None
    reader: int | None
    """`wire.messages.ReaderState`."""
    clock_trusted: bool | None
    blocked: tuple[int, ...] | None
    """`wire.failures.Failure` codes: why no visit may start; empty when one may."""
    facts_unsent: int | None
    facts_kept: int | None
    journal_bytes: int | None
    rss_kib: int | None
    uptime_s: int | None
    health_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the timeline or of the anomalies. `id` (hexadecimal) is the cursor for the next page."""

    id: str
    terminal: str
    at_ms: int
    kind: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Certificate:
    serial_number: str
    terminal: str
    pem: str
    not_before_ms: int
    not_after_ms: int
    issued_ms: int
    revoked_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredFact:
    """`cursor` asks for the page after this row."""

    fact: Fact
    received_ms: int
    cursor: str


@dataclass(frozen=True, slots=True)
class StoredJournal:
    journal: str
    stored_through: int
    first_seq: int | None
    last_seq: int | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    id: str
    kind: CommandKind
    created_ms: int
    not_after_ms: int
    sent_ms: int | None
    result: int | None
    result_ms: int | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """The fleet in figures, cheap enough for every scrape: no large table is counted."""

    terminals: dict[str, int]
    """By presence; all four words are always there."""
    enrolled: int
    facts_through: int
    """Sum of the watermarks: facts that are stored or known to be lost."""
    commands_open: int
    anomalies: dict[str, int]
    """By kind. Bounded per terminal and kind, see `ingest/anomalies.py`."""
    certificates_expiring: int
    """Not revoked, not expired, and less than 14 days to go."""


def data_version(connection: sa.Connection) -> int:
    """Grows with every committed transaction of any process: ask again when it changed, not before."""
    return int(connection.execute(sa.select(db.revision.c.value)).scalar_one())


def list_terminals(
    connection: sa.Connection, *, prefix: str = "", after: str = "", limit: int = 50, presence: str | None = None
) -> list[Terminal]:
    """Terminals whose serial begins with `prefix`, in the database's order of serials, those after `after`."""
    serial = db.terminals.c.serial
    query = sa.select(*_TERMINAL).where(serial > after).order_by(serial)
    if prefix:
        query = query.where(serial.startswith(prefix, autoescape=True))
    if presence is not None:
        query = query.where(db.terminals.c.presence == presence)
    return [_terminal(row) for row in connection.execute(query.limit(_page(limit)))]


def terminal(connection: sa.Connection, serial: str) -> Terminal:
    """One terminal.

    Raises:
        UnknownTerminalError: there is none.
    """
    row = connection.execute(sa.select(*_TERMINAL).where(db.terminals.c.serial == serial)).first()
    if row is None:
        raise UnknownTerminalError
    return _terminal(row)


def timeline(connection: sa.Connection, serial: str, *, before: str = "", limit: int = 50) -> list[Event]:
    """What happened to a terminal, newest first; `before` is the `id` of the last event of the page before."""
    return _events(connection, db.timeline, serial, before, limit)


def anomalies(connection: sa.Connection, serial: str, *, before: str = "", limit: int = 50) -> list[Event]:
    """What should not have happened, newest first."""
    return _events(connection, db.anomalies, serial, before, limit)


def certificates(connection: sa.Connection, serial: str, *, limit: int = 20) -> list[Certificate]:
    """The terminal's certificates, newest first."""
    query = (
        sa.select(db.certificates)
        .where(db.certificates.c.terminal == serial)
        .order_by(db.certificates.c.issued_ms.desc(), db.certificates.c.serial_number)
        .limit(_page(limit))
    )
    return [Certificate(**row) for row in connection.execute(query).mappings()]


def facts(connection: sa.Connection, serial: str, *, cursor: str = "", limit: int = 50) -> list[StoredFact]:
    """The terminal's facts by arrival, newest first.

    Raises:
        RequestRefusedError: `cursor` is not one that this function gave.
    """
    table = db.facts.c
    query = (
        sa.select(table.received_ms, table.journal, table.seq, table.body)
        .where(table.terminal == serial)
        .order_by(table.received_ms.desc(), table.journal.desc(), table.seq.desc())
        .limit(_page(limit))
    )
    if cursor:
        received_ms, journal, seq = _read_cursor(cursor)
        query = query.where(
            table.received_ms <= received_ms,
            sa.tuple_(table.received_ms, table.journal, table.seq) < sa.tuple_(received_ms, journal, seq),
        )
    return [
        StoredFact(
            fact=decode(row.body, Fact),
            received_ms=row.received_ms,
            cursor=f"{row.received_ms}.{row.journal.hex()}.{row.seq}",
        )
        for row in connection.execute(query)
    ]


def count_facts(connection: sa.Connection, serial: str) -> int:
    """How many facts of one terminal are stored."""
    query = sa.select(sa.func.count()).select_from(db.facts).where(db.facts.c.terminal == serial)
    return int(connection.execute(query).scalar_one())


def journals(connection: sa.Connection, serial: str) -> list[StoredJournal]:
    """How far each journal of the terminal is stored."""
    query = sa.select(db.journals).where(db.journals.c.terminal == serial).order_by(db.journals.c.journal)
    return [
        StoredJournal(row.journal.hex(), row.stored_through, row.first_seq, row.last_seq)
        for row in connection.execute(query.limit(MAX_PAGE))
    ]


def commands(connection: sa.Connection, serial: str, *, limit: int = 20) -> list[OutboxRow]:
    """What the terminal was asked, newest first."""
    query = (
        sa.select(db.commands)
        .where(db.commands.c.terminal == serial)
        .order_by(db.commands.c.id.desc())
        .limit(_page(limit))
    )
    return [
        OutboxRow(
            row.id.hex(), CommandKind(row.kind), row.created_ms, row.not_after_ms, row.sent_ms, row.result,
            row.result_ms,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def request_health(connection: sa.Connection, serial: str, *, command_id: bytes, now_ms: int) -> str:
    """Ask the terminal to report its health; returns the command's id in hexadecimal. Must run in `db.writing`.

    While one such command is open, asking again gives the open one.

    Args:
        connection: an open writing transaction.
        serial: the terminal.
        command_id: 16 bytes that no command had before, `ids.uuid7`.
        now_ms: the server's clock.

    Raises:
        UnknownTerminalError: there is no such terminal.
    """
    terminal(connection, serial)
    table = db.commands.c
    already = connection.execute(
        sa.select(table.id).where(
            table.terminal == serial,
            table.result.is_(None),
            table.not_after_ms > now_ms,
            table.kind == CommandKind.REPORT_HEALTH,
        )
    ).first()
    if already is not None:
        return bytes(already.id).hex()
    connection.execute(
        sa.insert(db.commands).values(
            terminal=serial,
            id=command_id,
            kind=int(CommandKind.REPORT_HEALTH),
            created_ms=now_ms,
            not_after_ms=now_ms + COMMAND_LIFE_MS,
        )
    )
    return command_id.hex()


def numbers(connection: sa.Connection, *, now_ms: int) -> Numbers:
    """Figures for the metrics endpoint and the head of the page."""
    by_presence = dict.fromkeys(("never", "online", "left", "lost"), 0)
    for word, count in connection.execute(
        sa.select(db.terminals.c.presence, sa.func.count()).group_by(db.terminals.c.presence)
    ):
        by_presence[word] = count
    soon = now_ms + 14 * 24 * 3600 * 1000
    certificate = db.certificates.c
    return Numbers(
        terminals=by_presence,
        enrolled=_count(connection, sa.select(sa.func.count(db.terminals.c.enrolled_ms))),
        # as floating point, because SQLite's sum of integers raises when it overflows; exact up to 2**53
        facts_through=_count(
            connection, sa.select(sa.func.coalesce(sa.func.sum(sa.cast(db.journals.c.stored_through, sa.Double)), 0))
        ),
        commands_open=_count(
            connection,
            sa.select(sa.func.count())
            .select_from(db.commands)
            .where(db.commands.c.result.is_(None), db.commands.c.not_after_ms > now_ms),
        ),
        anomalies={
            row.kind: row.kept
            for row in connection.execute(
                sa.select(db.anomalies.c.kind, sa.func.count().label("kept")).group_by(db.anomalies.c.kind)
            )
        },
        certificates_expiring=_count(
            connection,
            sa.select(sa.func.count())
            .select_from(db.certificates)
            .where(
                certificate.revoked_ms.is_(None), certificate.not_after_ms > now_ms, certificate.not_after_ms < soon
            ),
        ),
    )


_HIDDEN: Final = {"session_ended", "state_at_ms", "health_session"}
_TERMINAL: Final[Sequence[sa.Column[Any]]] = [column for column in db.terminals.c if column.name not in _HIDDEN]


def _terminal(row: sa.Row[Any]) -> Terminal:
    values = dict(row._mapping)
    for name in ("boot", "journal"):
        values[name] = values[name] and values[name].hex()
    values["blocked"] = None if values["blocked"] is None else tuple(values["blocked"])
    return Terminal(**values)


def _events(connection: sa.Connection, table: sa.Table, serial: str, before: str, limit: int) -> list[Event]:
    query = (
        sa.select(table)
        .where(table.c.terminal == serial, table.c.id < _event_id(before))
        .order_by(table.c.id.desc())
        .limit(_page(limit))
    )
    return [Event(row.id.hex(), row.terminal, row.at_ms, row.kind, row.detail) for row in connection.execute(query)]


def _event_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if text else _NO_ID
    except ValueError as exc:
        raise RequestRefusedError("not a cursor") from exc


def _read_cursor(cursor: str) -> tuple[int, bytes, int]:
    try:
        received_ms, journal, seq = cursor[:100].split(".")
        return int(received_ms), bytes.fromhex(journal), int(seq)
    except ValueError as exc:
        raise RequestRefusedError("not a cursor") from exc


def _page(limit: int) -> int:
    return max(1, min(limit, MAX_PAGE))


def _count(connection: sa.Connection, query: sa.Select[Any]) -> int:
    return int(connection.execute(query).scalar_one())
