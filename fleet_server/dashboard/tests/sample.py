"""A small fleet in a database: one terminal for each state that the pages can show."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fleet_server import admin, db, ids
from fleet_server.config import BrokerConfig, Config, EstConfig, IngestConfig, WebConfig
from wire.failures import Failure
from wire.fields import encode
from wire.messages import CommandKind, Fact, FactKind, ReaderState

NOW_MS = 1_763_800_000_000
DAY_MS = 24 * 3600 * 1000
JOURNAL = bytes.fromhex("5f0e") + bytes(14)
LINK = "one-time-link"
BUSY = "thr-0417-01"
BLOCKED = "isf-0099-02"
LOST = "mhd-0012-01"
LEFT = "tbz-0003-07"
NEVER = "shz-0500-01"


def config_in(folder: Path) -> Config:
    """A configuration whose database lies in `folder`."""
    return Config(
        data_dir=folder,
        web=WebConfig(port=8000),
        est=EstConfig(port=8443),
        broker=BrokerConfig(port=8883),
        ingest=IngestConfig(metrics_port=9000),
    )


def make_fleet(folder: Path, *, now_ms: int = NOW_MS) -> Config:
    """The sample fleet with an unused login link, `LINK`."""
    config = config_in(folder)
    engine = db.open_engine(config.database)
    db.migrate(engine)
    with db.writing(engine) as connection:
        admin.add_link(connection, LINK, now_ms=now_ms)
        fill(connection, now_ms)
    engine.dispose()
    return config


def add_terminal(connection: sa.Connection, serial: str, now_ms: int, **values: Any) -> None:
    """One terminal, healthy unless `values` say otherwise."""
    healthy: dict[str, Any] = {
        "added_ms": now_ms - 9 * DAY_MS, "enrolled_ms": now_ms - 8 * DAY_MS, "presence": "online",
        "last_seen_ms": now_ms - 2_000, "boot": bytes(16), "session": 12, "journal": JOURNAL, "state_at_ms": now_ms,
        "agent": "0.1.0", "profile": "spine-0", "reader": int(ReaderState.EMPTY), "clock_trusted": True, "blocked": [],
        "facts_unsent": 0, "facts_kept": 27, "journal_bytes": 3_400_000, "rss_kib": 91_000, "uptime_s": 93_000,
        "health_at_ms": now_ms - 20_000,
    }  # fmt: skip
    connection.execute(sa.insert(db.terminals).values(serial=serial, **{**healthy, **values}))


def add_event(connection: sa.Connection, serial: str, at_ms: int, kind: str, detail: dict[str, Any]) -> None:
    """A row of the timeline."""
    row = {"terminal": serial, "id": ids.uuid7(at_ms, 0, bytes(8)), "at_ms": at_ms, "kind": kind, "detail": detail}
    connection.execute(sa.insert(db.timeline).values(**row))


def add_fact(connection: sa.Connection, serial: str, fact: Fact, received_ms: int) -> None:
    """A stored fact."""
    body = encode(fact)
    connection.execute(
        sa.insert(db.facts).values(
            terminal=serial, journal=fact.journal, seq=fact.seq, kind=int(fact.kind), at_ms=fact.at_ms,
            received_ms=received_ms, body=body, body_hash=hashlib.sha256(body).digest(),
        )
    )  # fmt: skip


def add_certificate(
    connection: sa.Connection, serial: str, number: str, from_ms: int, until_ms: int, **more: Any
) -> None:
    """A certificate; its PEM is not one."""
    connection.execute(
        sa.insert(db.certificates).values(
            serial_number=number, terminal=serial, pem="-----BEGIN CERTIFICATE-----\n", not_before_ms=from_ms,
            not_after_ms=until_ms, issued_ms=from_ms, **more,
        )
    )  # fmt: skip


def fill(connection: sa.Connection, now_ms: int) -> None:
    """Terminals in every state; `BUSY` has a history."""
    add_terminal(connection, BUSY, now_ms, reader=int(ReaderState.CARD_PRESENT))
    reasons = [int(Failure.READER_ABSENT), int(Failure.CLOCK_NOT_TRUSTED)]
    add_terminal(
        connection, BLOCKED, now_ms, reader=int(ReaderState.NO_READER), blocked=reasons, clock_trusted=False,
        facts_unsent=3, last_seen_ms=now_ms - 41_000,
    )  # fmt: skip
    add_terminal(connection, LOST, now_ms, presence="lost", last_seen_ms=now_ms - 3 * 3600 * 1000, agent="0.0.9")
    add_terminal(connection, LEFT, now_ms, presence="left", last_seen_ms=now_ms - 2 * DAY_MS)
    nothing = dict.fromkeys(
        ("enrolled_ms", "last_seen_ms", "boot", "session", "journal", "state_at_ms", "agent", "profile", "reader",
         "clock_trusted", "blocked", "facts_unsent", "facts_kept", "journal_bytes", "rss_kib", "uptime_s",
         "health_at_ms"),
    )  # fmt: skip
    add_terminal(connection, NEVER, now_ms, presence="never", **nothing)
    hour = 3600 * 1000
    events: list[tuple[int, str, dict[str, Any]]] = [
        (190 * hour, "added", {}),
        (189 * hour, "enrolled", {"certificate": "1a2b"}),
        (188 * hour, "online", {"session": 1}),
        (187 * hour, "reader", {"from": None, "to": 2}),
        (60 * hour, "lost", {"session": 11, "by": "silence", "silent_s": 180}),
        (59 * hour, "online", {"session": 12}),
        (58 * hour, "version", {"from": "0.0.9", "to": "0.1.0"}),
        (30 * hour, "blocked", {"from": [], "to": [43, 40]}),
        (29 * hour, "blocked", {"from": [43, 40], "to": []}),
        (2 * hour, "clock_trusted", {"from": False, "to": True}),
        (hour, "command_done", {"id": "00", "failure": 0}),
    ]
    for ago_ms, kind, detail in events:
        add_event(connection, BUSY, now_ms - ago_ms, kind, detail)
    add_certificate(connection, BUSY, "7f" * 16, now_ms - 8 * DAY_MS, now_ms + 82 * DAY_MS)
    add_certificate(connection, BUSY, "6e" * 16, now_ms - 98 * DAY_MS, now_ms - 8 * DAY_MS)
    add_certificate(connection, LOST, "5d" * 16, now_ms - 8 * DAY_MS, now_ms + DAY_MS, revoked_ms=now_ms - DAY_MS)
    outcomes = (Failure.NONE, Failure.NONE, Failure.CARD_GONE, Failure.NONE, Failure.REGISTRY_UNREACHABLE)
    for seq, outcome in enumerate(outcomes, start=2):
        at_ms = now_ms - (10 - seq) * 600_000
        fact = Fact(
            journal=JOURNAL, seq=seq, kind=FactKind.VISIT_ENDED, at_ms=at_ms, service="notary.deed",
            loa=2 if outcome is Failure.NONE else 0, outcome=outcome, took_ms=4_200 + seq * 130,
        )  # fmt: skip
        add_fact(connection, BUSY, fact, at_ms + 300)
    started = Fact(journal=JOURNAL, seq=1, kind=FactKind.AGENT_STARTED, at_ms=now_ms - 2 * hour, agent="0.1.0")
    add_fact(connection, BUSY, started, now_ms - 2 * hour)
    connection.execute(sa.insert(db.journals).values(terminal=BUSY, journal=JOURNAL, stored_through=6))
    connection.execute(
        sa.insert(db.commands).values(
            terminal=BUSY, id=ids.uuid7(now_ms - hour, 0, bytes(8)), kind=int(CommandKind.REPORT_HEALTH),
            created_ms=now_ms - hour, not_after_ms=now_ms, sent_ms=now_ms - hour, result=0, result_ms=now_ms - hour,
        )
    )  # fmt: skip
    connection.execute(
        sa.insert(db.anomalies).values(
            terminal=LOST, id=ids.uuid7(now_ms - hour, 0, bytes(8)), at_ms=now_ms - hour, kind="fact_conflict",
            detail={"journal": JOURNAL.hex(), "seq": 4, "hash": "00" * 8},
        )
    )  # fmt: skip
