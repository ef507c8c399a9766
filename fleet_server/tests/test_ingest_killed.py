"""`kill -9` of the real ingest under load: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet_server import db, queries
from fleet_server.ids import uuid7
from fleet_server.tests.real_fleet import RealFleet, TestTerminal, until
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Command, Fact, FactKind, Result
from wire.topics import Down, Up

pytestmark = pytest.mark.bench
FACTS = 2000
KILLS = 4


def fact(journal: bytes, seq: int) -> Fact:
    return Fact(
        journal=journal, seq=seq, kind=FactKind.VISIT_ENDED, at_ms=seq, service="s", loa=2, outcome=Failure.NONE
    )


def test_killed_four_times_under_load_the_ingest_loses_and_doubles_nothing(tmp_path: Path) -> None:
    fleet = RealFleet(tmp_path / "fleet", "--mark-interval", "2")
    # small batches: most of the time is spent around commits, where a kill hurts
    small_batches = fleet.config.layout.config.read_text().replace("batch_messages = 1000", "batch_messages = 20")
    fleet.config.layout.config.write_text(small_batches)
    chance = random.Random(2026)
    try:
        for role in ("broker", "est", "ingest"):
            fleet.start(role)
        terminal = TestTerminal(fleet, fleet.enrol("t-1"))
        terminal.subscribe(topics.down_filter("t-1"))
        terminal.birth(last_seq=FACTS)
        engine = db.open_engine(fleet.config.database)

        def stored() -> int:
            with db.reading(engine) as connection:
                return queries.count_facts(connection, "t-1")

        publish = threading.Thread(target=lambda: [
            terminal.publish(topics.up("t-1", Up.FACT), fact(terminal.journal, seq)) for seq in range(1, FACTS + 1)
        ])  # fmt: skip
        publish.start()
        for kill in range(KILLS):
            at_least = chance.randrange(kill * FACTS // KILLS, (kill + 1) * FACTS // KILLS)
            until(lambda wanted=at_least: stored() >= wanted)  # type: ignore[misc] # bound early
            assert fleet.stop("ingest", signal.SIGKILL) == -signal.SIGKILL
            fleet.start("ingest")
        publish.join()
        until(lambda: stored() == FACTS)
        until(lambda: bool(terminal.marks()) and terminal.marks()[-1].stored == FACTS)
        with db.reading(engine) as connection:
            seqs = list(connection.execute(sa.select(db.facts.c.seq).order_by(db.facts.c.seq)).scalars())
            assert seqs == list(range(1, FACTS + 1))
            assert queries.journals(connection, "t-1")[0].stored_through == FACTS
            kinds = [event.kind for event in queries.timeline(connection, "t-1")]
            assert sorted(kinds) == ["added", "enrolled", "online", "profile", "version"]
            assert queries.anomalies(connection, "t-1") == []
        assert any(mark.resync for mark in terminal.marks())
        terminal.close()
        engine.dispose()
    finally:
        fleet.stop_all()


def test_a_command_reaches_a_terminal_whatever_was_down_when_it_was_given(tmp_path: Path) -> None:
    fleet = RealFleet(tmp_path / "fleet")
    try:
        fleet.start("broker")
        fleet.start("est")
        identity = fleet.enrol("t-1")
        engine = db.open_engine(fleet.config.database)
        with db.writing(engine) as connection:
            now_ms = 4_000_000_000_000  # far ahead, so that the command does not expire in the test
            wanted = queries.request_health(connection, "t-1", command_id=uuid7(1, 1, bytes(8)), now_ms=now_ms)
        fleet.start("ingest")
        terminal = TestTerminal(fleet, identity)
        terminal.subscribe(topics.down_filter("t-1"))
        terminal.birth()

        def commands() -> list[Command]:
            own = topics.down("t-1", Down.COMMAND)
            return [fields.decode(body, Command) for topic, body in list(terminal.received) if topic == own]

        until(lambda: len(commands()) >= 1)
        assert {command.id.hex() for command in commands()} == {wanted}
        fleet.stop("ingest", signal.SIGKILL)
        result = Result(id=commands()[0].id, failure=Failure.NONE, at_ms=1)
        terminal.publish(topics.up("t-1", Up.RESULT), result)
        fleet.start("ingest")

        def closed() -> bool:
            with db.reading(engine) as connection:
                return queries.commands(connection, "t-1")[0].result == Failure.NONE

        until(closed)
        terminal.close()
        assert fleet.stop("ingest") == 0
        engine.dispose()
    finally:
        fleet.stop_all()
