"""The fleet as JSON, `/api/v1/`, for programs of the same administrator: the session's cookie opens it too."""

from __future__ import annotations

from typing import Annotated, Any, Final

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from fleet_server import db
from fleet_server.dashboard.queries import find_terminals, read_detail
from fleet_server.dashboard.session import Sessions
from fleet_server.queries import Certificate, Event, OutboxRow, StoredFact, StoredJournal, Terminal
from wire.failures import Failure
from wire.messages import CommandKind, FactKind, ReaderState

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "/api/v1"
_SERIAL: Final = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
Serial = Annotated[str, Path(pattern=_SERIAL)]
Prefix = Annotated[str, Query(pattern=r"^[a-z0-9-]{0,40}$", description="Start of the serial")]
After = Annotated[str, Query(pattern=r"^[a-z0-9-]{0,40}$", description="`next_after` of the page before")]
Presence = Annotated[str | None, Query(pattern="^(never|online|left|lost)$")]


class TerminalOut(BaseModel):
    """What a terminal last reported. Times are milliseconds since 1970 UTC; null: never reported."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "serial": "thr-0417-01", "presence": "online", "added_ms": 1763790000000,
                    "enrolled_ms": 1763790300000, "last_seen_ms": 1763800000000, "agent": "0.1.0",
                    "profile": "spine-0", "reader": "empty", "clock_trusted": True, "blocked": [],
                    "facts_unsent": 0, "facts_kept": 27, "journal_bytes": 81920, "rss_kib": 90112,
                    "uptime_s": 86400, "health_at_ms": 1763799990000,
                }
            ]
        }
    )  # fmt: skip
    serial: str
    presence: str
    added_ms: int
    enrolled_ms: int | None
    last_seen_ms: int | None
    agent: str | None
    profile: str | None
    reader: str | None
    clock_trusted: bool | None
    blocked: list[str] | None
    facts_unsent: int | None
    facts_kept: int | None
    journal_bytes: int | None
    rss_kib: int | None
    uptime_s: int | None
    health_at_ms: int | None


class PageOut(BaseModel):
    items: list[TerminalOut]
    next_after: str | None


class CertificateOut(BaseModel):
    serial_number: str
    not_before_ms: int
    not_after_ms: int
    revoked_ms: int | None
    pem: str


class FactOut(BaseModel):
    """(`journal`, `seq`) is its identity."""

    journal: str
    seq: int
    kind: str
    at_ms: int
    received_ms: int
    service: str | None
    loa: int | None
    outcome: str | None
    took_ms: int | None


class JournalOut(BaseModel):
    journal: str
    stored_through: int


class EventOut(BaseModel):
    at_ms: int
    kind: str
    detail: dict[str, Any]


class CommandOut(BaseModel):
    id: str
    kind: str
    created_ms: int
    not_after_ms: int
    sent_ms: int | None
    result: str | None
    result_ms: int | None


class DetailOut(BaseModel):
    terminal: TerminalOut
    certificates: list[CertificateOut]
    facts_count: int
    facts: list[FactOut]
    journals: list[JournalOut]
    timeline: list[EventOut]
    anomalies: list[EventOut]
    commands: list[CommandOut]


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int


_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemOut, "content": {MEDIA_TYPE: {}}, "description": "Refused"} for status in (401, 404, 422)
}


def router(engine: sa.Engine, sessions: Sessions) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix=PREFIX, tags=["fleet"], responses=_REFUSALS)

    @routes.get("/terminals")
    def terminals(
        request: Request,
        q: Prefix = "",
        after: After = "",
        presence: Presence = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> PageOut:
        """Terminals by serial, a page at a time."""
        sessions.check(request)
        with db.reading(engine) as connection:
            page = find_terminals(connection, prefix=q, after=after, presence=presence, limit=limit)
        return PageOut(items=[_terminal(each) for each in page.items], next_after=page.next_after)

    @routes.get("/terminals/{serial}")
    def terminal(request: Request, serial: Serial) -> DetailOut:
        """One terminal with its certificates and the newest of everything else."""
        sessions.check(request)
        with db.reading(engine) as connection:
            detail = read_detail(connection, serial)
        return DetailOut(
            terminal=_terminal(detail.terminal),
            certificates=[_certificate(each) for each in detail.certificates],
            facts_count=detail.facts_count,
            facts=[_fact(each) for each in detail.facts],
            journals=[_journal(each) for each in detail.journals],
            timeline=[_event(each) for each in detail.timeline],
            anomalies=[_event(each) for each in detail.anomalies],
            commands=[_command(each) for each in detail.commands],
        )

    return routes


def problem(status: int, title: str) -> JSONResponse:
    """A refusal as a problem document."""
    name = title.replace(" ", "_")
    return JSONResponse(
        {"type": f"urn:govah:problem:{name}", "title": title, "status": status}, status, media_type=MEDIA_TYPE
    )


def _name(kind: type[Failure | ReaderState | FactKind | CommandKind], value: int | None) -> str | None:
    """The word for a code; a code that this version does not know, as a number."""
    if value is None:
        return None
    try:
        return kind(value).name.lower()
    except ValueError:
        return str(value)


def _terminal(row: Terminal) -> TerminalOut:
    values = {name: getattr(row, name) for name in TerminalOut.model_fields}
    values["reader"] = _name(ReaderState, row.reader)
    values["blocked"] = None if row.blocked is None else [_name(Failure, code) for code in row.blocked]
    return TerminalOut(**values)


def _certificate(row: Certificate) -> CertificateOut:
    return CertificateOut(**{name: getattr(row, name) for name in CertificateOut.model_fields})


def _fact(row: StoredFact) -> FactOut:
    fact = row.fact
    return FactOut(
        journal=fact.journal.hex(),
        seq=fact.seq,
        kind=fact.kind.name.lower(),
        at_ms=fact.at_ms,
        received_ms=row.received_ms,
        service=fact.service,
        loa=fact.loa,
        outcome=_name(Failure, fact.outcome),
        took_ms=fact.took_ms,
    )


def _journal(row: StoredJournal) -> JournalOut:
    return JournalOut(journal=row.journal, stored_through=row.stored_through)


def _event(row: Event) -> EventOut:
    return EventOut(at_ms=row.at_ms, kind=row.kind, detail=row.detail)


def _command(row: OutboxRow) -> CommandOut:
    return CommandOut(
        id=row.id,
        kind=row.kind.name.lower(),
        created_ms=row.created_ms,
        not_after_ms=row.not_after_ms,
        sent_ms=row.sent_ms,
        result=_name(Failure, row.result),
        result_ms=row.result_ms,
    )
