from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_server import db, queries
from fleet_server.broker.door import Delivery, Token
from fleet_server.ingest.store import Committed, Store
from fleet_server.tests.conftest import NOW_MS, Ids
from fleet_server.tests.test_presence import JOURNAL, OTHER, health, state
from wire import cbor, fields, topics
from wire.failures import Failure
from wire.messages import Fact, FactKind, Presence, Result, State
from wire.topics import Up


def fact(seq: int, *, terminal: str = "t-1", journal: bytes = JOURNAL, at_ms: int = 5) -> Delivery:
    body = Fact(journal=journal, seq=seq, kind=FactKind.VISIT_ENDED, at_ms=at_ms, service="s", loa=2, took_ms=1)
    return delivery(body, Up.FACT, terminal=terminal)


def delivery(message: fields.Message, kind: Up, *, terminal: str = "t-1") -> Delivery:
    return Delivery(topics.up(terminal, kind), fields.encode(message), NOW_MS, Token(1))


def birth(session: int, *, first: int | None = 1, last: int | None = 0, journal: bytes = JOURNAL) -> Delivery:
    said = state(Presence.BIRTH, session, journal=journal)
    said = State(
        presence=said.presence, boot=said.boot, session=session, journal=journal, at_ms=said.at_ms, agent="1",
        profile="p", first_seq=first, last_seq=last,
    )  # fmt: skip
    return delivery(said, Up.STATE)


def stored_seqs(engine: sa.Engine, terminal: str = "t-1") -> list[int]:
    with db.reading(engine) as connection:
        query = sa.select(db.facts.c.seq).where(db.facts.c.terminal == terminal).order_by(db.facts.c.seq)
        return list(connection.execute(query).scalars())


def watermark(engine: sa.Engine) -> int:
    with db.reading(engine) as connection:
        rows = {row.journal: row.stored_through for row in queries.journals(connection, "t-1")}
        return rows[JOURNAL.hex()]


def anomaly_kinds(engine: sa.Engine) -> list[str]:
    with db.reading(engine) as connection:
        return [event.kind for event in queries.anomalies(connection, "t-1", limit=200)]


@pytest.fixture
def store(listed: sa.Engine, new_id: Ids) -> Store:
    return Store(listed, new_id=new_id)


def test_facts_are_stored_once_however_often_they_come(listed: sa.Engine, store: Store) -> None:
    assert store.commit([fact(1), fact(2), fact(2)], NOW_MS).facts_new == 2
    again = store.commit([fact(2), fact(1), fact(3)], NOW_MS)
    assert again.facts_new == 1
    assert not again.rejects
    assert stored_seqs(listed) == [1, 2, 3]
    assert watermark(listed) == 3 == store.stored_through(("t-1", JOURNAL))


def test_the_same_key_with_other_bytes_is_an_alarm_and_the_first_stays(listed: sa.Engine, store: Store) -> None:
    store.commit([fact(1)], NOW_MS)
    assert store.commit([fact(1, at_ms=6)], NOW_MS).rejects["fact_conflict"] == 1
    assert store.commit([fact(2), fact(2, at_ms=7)], NOW_MS).rejects["fact_conflict"] == 1
    assert anomaly_kinds(listed) == ["fact_conflict", "fact_conflict"]
    with db.reading(listed) as connection:
        assert {row.fact.at_ms for row in queries.facts(connection, "t-1")} == {5}


def test_two_terminals_may_use_the_same_journal_id_and_share_nothing(listed: sa.Engine, store: Store) -> None:
    """A cloned storage card: each terminal's facts stay its own."""
    store.commit([fact(1), fact(1, terminal="t-2", at_ms=9)], NOW_MS)
    assert stored_seqs(listed) == stored_seqs(listed, "t-2") == [1]
    assert anomaly_kinds(listed) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(st.lists(st.integers(1, 25), min_size=1, max_size=6), min_size=1, max_size=8),
    restarts=st.sets(st.integers(0, 7)),
)
def test_with_gaps_repeats_and_restarts_the_mark_is_the_first_gap(
    tmp_path_factory: pytest.TempPathFactory, empty_fleet: Path, arrivals: list[list[int]], restarts: set[int]
) -> None:
    engine = fresh(tmp_path_factory, empty_fleet)
    store = Store(engine, new_id=Ids())
    came: set[int] = set()
    for number, seqs in enumerate(arrivals):
        if number in restarts:
            store = Store(engine, new_id=Ids())
            store.load()
        store.commit([fact(seq) for seq in seqs], NOW_MS)
        came.update(seqs)
        through = next(seq for seq in range(1, 30) if seq not in came) - 1
        assert watermark(engine) == through == store.stored_through(("t-1", JOURNAL))
        assert set(stored_seqs(engine)) == came
    engine.dispose()


def fresh(factory: pytest.TempPathFactory, empty: Path) -> sa.Engine:
    """A migrated database with ``t-1``, without the durability that the test does not look at."""
    path = factory.mktemp("db") / "fleet.sqlite"
    shutil.copy(empty, path)
    engine = db.open_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF").close())
    with db.writing(engine) as connection:
        db.insert_ignoring(connection, db.terminals, [{"serial": "t-1", "added_ms": NOW_MS}])
    return engine


def test_a_terminal_with_more_gaps_than_are_remembered_is_still_followed_exactly(
    tmp_path_factory: pytest.TempPathFactory, empty_fleet: Path
) -> None:
    engine = fresh(tmp_path_factory, empty_fleet)
    store = Store(engine, new_id=Ids())
    store.commit([fact(seq) for seq in range(2, 1400, 2)], NOW_MS)
    assert watermark(engine) == 0
    odd = list(range(1, 1400, 2))
    random.Random(7).shuffle(odd)
    for at in range(0, len(odd), 50):
        store.commit([fact(seq) for seq in odd[at : at + 50]], NOW_MS)
    assert watermark(engine) == 1399
    engine.dispose()


def test_a_server_restored_from_a_backup_gets_back_what_the_terminal_still_has_and_says_what_is_lost(
    listed: sa.Engine, store: Store, tmp_path: Path, new_id: Ids
) -> None:
    store.commit([birth(1), *(fact(seq) for seq in range(1, 11))], NOW_MS)
    with sqlite3.connect(str(listed.url.database)) as live, sqlite3.connect(tmp_path / "backup.sqlite") as backup:
        live.backup(backup)
    live.close()
    backup.close()
    store.commit([fact(seq) for seq in range(11, 41)], NOW_MS)
    shutil.copy(tmp_path / "backup.sqlite", tmp_path / "restored.sqlite")
    engine = db.open_engine(f"sqlite:///{tmp_path / 'restored.sqlite'}")
    restored = Store(engine, new_id=new_id)
    restored.load()
    assert restored.stored_through(("t-1", JOURNAL)) == 10
    # the terminal has deleted what was stored 14 days ago: 11 to 20 are gone for ever
    committed = restored.commit([birth(2, first=21, last=40)], NOW_MS)
    assert committed.born == {("t-1", JOURNAL)}
    assert restored.stored_through(("t-1", JOURNAL)) == 20
    with db.reading(engine) as reading:
        (event,) = queries.anomalies(reading, "t-1")
    assert (event.kind, event.detail["facts"], event.detail["through"]) == ("facts_lost", 10, 20)
    restored.commit([fact(seq) for seq in range(21, 41)], NOW_MS)
    assert restored.stored_through(("t-1", JOURNAL)) == 40
    engine.dispose()


def test_a_second_birth_with_the_same_gap_alarms_once(listed: sa.Engine, store: Store) -> None:
    store.commit([birth(1, first=5, last=9)], NOW_MS)
    store.commit([birth(2, first=5, last=9), birth(2, first=5, last=9)], NOW_MS)
    assert anomaly_kinds(listed) == ["facts_lost"]


def test_a_terminal_that_nobody_listed_gets_nothing_and_writes_nothing(listed: sa.Engine, store: Store) -> None:
    """A certificate of our CA is not enough (security test S3)."""
    stranger = [fact(1, terminal="t-9"), delivery(health(1), Up.HEALTH, terminal="t-9")]
    committed = store.commit([*stranger, fact(1)], NOW_MS)
    assert committed.rejects["unknown_terminal"] == 2
    assert committed.advanced == {("t-1", JOURNAL)}
    assert stored_seqs(listed, "t-9") == []
    with db.writing(listed) as connection:
        db.insert_ignoring(connection, db.terminals, [{"serial": "t-9", "added_ms": NOW_MS}])
    assert store.commit(stranger, NOW_MS).facts_new == 1


RUBBISH = (
    b"", b"\xff", b"\xa0", b"\xa1\x01", b"\x80" * 10_000, b"\xa1\x01\xfb\x7f\xf8\0\0\0\0\0\0", bytes(70_000),
    b"\xa2\x01\x01\x01\x01", b"\x9f" * 1000, b"{}",
)  # fmt: skip


@pytest.mark.parametrize("kind", list(Up))
def test_rubbish_is_counted_and_stops_nothing(listed: sa.Engine, store: Store, kind: Up) -> None:
    rubbish = [Delivery(topics.up("t-1", kind), body, NOW_MS, Token(1)) for body in RUBBISH]
    committed = store.commit([*rubbish, fact(1)], NOW_MS)
    assert committed.rejects == {f"bad_{kind}": len(RUBBISH)}
    assert committed.facts_new == 1
    assert set(anomaly_kinds(listed)) == {f"bad_{kind}"}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=30) | st.sampled_from(["fl/v1/t-1/up/fact/x", "fl/v1//up/fact", "fl/v1/t-1/up/nothing"]),
    st.binary(max_size=60),
)
def test_no_topic_and_no_bytes_make_the_ingest_raise(store: Store, topic: str, body: bytes) -> None:
    store.commit([Delivery(topic, body, NOW_MS, Token(1))], NOW_MS)


def test_a_batch_delivered_again_after_a_kill_doubles_no_row(listed: sa.Engine, store: Store, new_id: Ids) -> None:
    batch = [birth(1), delivery(health(1), Up.HEALTH), fact(1), delivery(state(Presence.LOST, 1), Up.STATE), birth(2)]
    store.commit(batch, NOW_MS)
    with db.reading(listed) as connection:
        before = [event.kind for event in queries.timeline(connection, "t-1")]
    restarted = Store(listed, new_id=new_id)
    restarted.load()
    restarted.commit(batch, NOW_MS)
    with db.reading(listed) as connection:
        assert [event.kind for event in queries.timeline(connection, "t-1")] == before
        assert queries.terminal(connection, "t-1").presence == "online"
    assert stored_seqs(listed) == [1]


def test_a_commit_that_fails_leaves_nothing_behind_in_memory_either(listed: sa.Engine, store: Store) -> None:
    store.commit([birth(1)], NOW_MS)
    blocker = sa.create_engine(listed.url, isolation_level="AUTOCOMMIT")
    sa.event.listen(listed, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout=1").close())
    with blocker.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError):
            store.commit([fact(1), birth(2)], NOW_MS)
        other.exec_driver_sql("ROLLBACK")
    blocker.dispose()
    assert store.stored_through(("t-1", JOURNAL)) == 0
    assert store.seen["t-1"].session == 1
    assert store.commit([fact(1), birth(2)], NOW_MS).facts_new == 1
    assert store.seen["t-1"].session == 2


def test_a_message_that_the_database_alone_refuses_is_given_up_and_the_others_are_stored(
    listed: sa.Engine, store: Store
) -> None:
    with db.writing(listed) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER poison BEFORE INSERT ON facts WHEN NEW.seq = 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    batch = [fact(1), fact(2), fact(3)]
    with pytest.raises(sa.exc.IntegrityError):
        store.commit(batch, NOW_MS)
    done = store.commit_each(batch, NOW_MS)
    assert sum(committed.facts_new for committed in done) == 2
    assert sum(committed.rejects["refused_by_database"] for committed in done) == 1
    assert stored_seqs(listed) == [1, 3]
    assert watermark(listed) == 1


def test_no_message_is_given_up_for_what_is_wrong_with_the_database(listed: sa.Engine, new_id: Ids) -> None:
    class Away(Store):
        def commit(self, deliveries: Sequence[Delivery], now_ms: int) -> Committed:
            raise sa.exc.InterfaceError("INSERT", {}, sqlite3.InterfaceError("connection already closed"))

    with pytest.raises(sa.exc.InterfaceError):
        Away(listed, new_id=new_id).commit_each([fact(1)], NOW_MS)


def test_a_result_closes_its_command_once_and_only_the_terminals_own(listed: sa.Engine, store: Store) -> None:
    command_id = Ids()()
    with db.writing(listed) as connection:
        queries.request_health(connection, "t-1", command_id=command_id, now_ms=NOW_MS)
    result = Result(id=command_id, failure=Failure.NONE, at_ms=1)
    foreign = store.commit([delivery(result, Up.RESULT, terminal="t-2")], NOW_MS)
    assert foreign.rejects["result_unknown"] == 1
    for _ in range(2):
        assert not store.commit([delivery(result, Up.RESULT)], NOW_MS + 7).rejects
    with db.reading(listed) as connection:
        (row,) = queries.commands(connection, "t-1")
        assert (row.result, row.result_ms) == (0, NOW_MS)
        assert [event.kind for event in queries.timeline(connection, "t-1")] == ["command_done"]


def test_of_a_fact_only_what_we_know_is_kept_and_the_rest_is_an_anomaly(listed: sa.Engine, store: Store) -> None:
    known = fact(1)
    said = cbor.decode(known.payload, max_bytes=1000) | {99: "a name", "more": [1]}
    more = msgspec.structs.replace(known, payload=cbor.encode(said))
    unlisted = msgspec.structs.replace(more, topic=topics.up("t-9", Up.FACT))
    assert store.commit([more, fact(2), unlisted], NOW_MS).facts_new == 2
    with db.reading(listed) as connection:
        first = connection.execute(sa.select(db.facts).where(db.facts.c.seq == 1)).one()
        (anomaly,) = queries.anomalies(connection, "t-1")
    assert (first.body, first.body_hash) == (known.payload, hashlib.sha256(more.payload).digest())
    assert (anomaly.kind, anomaly.detail) == ("unknown_keys", {"more_bytes": len(more.payload) - len(known.payload)})
    assert not store.commit([more], NOW_MS).rejects
    assert store.commit([known], NOW_MS).rejects == {"fact_conflict": 1}


def test_who_is_silent_too_long_is_lost_once(listed: sa.Engine, store: Store) -> None:
    store.commit([birth(1)], NOW_MS)
    assert store.mark_silent(now_ms=NOW_MS + 3_600_000, silent_ms=lambda _: 1000, limit_ms=1000) == 0
    assert store.mark_silent(now_ms=NOW_MS, silent_ms={"t-1": 1001, "t-2": 1001}.__getitem__, limit_ms=1000) == 1
    with db.reading(listed) as connection:
        assert queries.terminal(connection, "t-1").presence == "lost"
    assert store.mark_silent(now_ms=NOW_MS + 2002, silent_ms=lambda _: 2002, limit_ms=1000) == 0


def test_only_what_a_terminal_itself_says_anew_is_a_sign_of_life(store: Store) -> None:
    assert store.commit([fact(1), birth(1, journal=OTHER)], NOW_MS).heard == {"t-1"}
    assert store.commit([delivery(health(1), Up.HEALTH), fact(1, terminal="t-2")], NOW_MS).heard == {"t-1", "t-2"}
    again = [birth(1, journal=OTHER), delivery(health(1), Up.HEALTH)]
    will = delivery(state(Presence.LOST, 1, journal=OTHER), Up.STATE)
    assert store.commit([*again, will], NOW_MS).heard == frozenset()


def test_two_journals_of_one_terminal_have_a_mark_each(listed: sa.Engine, store: Store) -> None:
    store.commit([fact(1), fact(2), fact(1, journal=OTHER)], NOW_MS)
    assert store.stored_through(("t-1", JOURNAL)) == 2
    assert store.stored_through(("t-1", OTHER)) == 1


def test_a_replaced_journal_is_believed_though_its_facts_were_read_before_its_birth(store: Store, new_id: Ids) -> None:
    store.commit([birth(90)], NOW_MS)
    early = state(Presence.BIRTH, 1, journal=OTHER, at_ms=0)
    store.commit([fact(1, journal=OTHER)], NOW_MS)
    store.commit([delivery(early, Up.STATE)], NOW_MS)
    assert store.seen["t-1"].journal == OTHER


def test_an_old_journal_that_comes_back_late_is_not_believed_even_after_a_restart(
    listed: sa.Engine, store: Store, new_id: Ids
) -> None:
    store.commit([birth(90), delivery(state(Presence.BIRTH, 1, journal=OTHER, at_ms=5000), Up.STATE)], NOW_MS)
    restarted = Store(listed, new_id=new_id)
    restarted.load()
    restarted.commit([birth(90)], NOW_MS)
    assert restarted.seen["t-1"].journal == OTHER
