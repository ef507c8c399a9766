"""What one terminal can make the ingest keep, in tables and in memory, is bounded."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from fleet_server import db, queries
from fleet_server.broker.door import Delivery, Token
from fleet_server.ingest.anomalies import KEPT_PER_KIND
from fleet_server.ingest.batch import SEQ_MAX
from fleet_server.ingest.store import JOURNALS_MAX, Store
from fleet_server.tests.conftest import NOW_MS, Ids
from fleet_server.tests.test_presence import state
from fleet_server.tests.test_store import anomaly_kinds, birth, delivery, fact, stored_seqs, watermark
from wire import topics
from wire.messages import Presence
from wire.topics import Up


@pytest.fixture
def store(listed: sa.Engine, new_id: Ids) -> Store:
    return Store(listed, new_id=new_id)


def test_what_a_wild_terminal_leaves_behind_is_bounded(listed: sa.Engine, store: Store) -> None:
    for _ in range(3):
        bad = [Delivery(topics.up("t-1", Up.FACT), b"\xff", NOW_MS, Token(1))] * KEPT_PER_KIND
        assert store.commit(bad, NOW_MS).rejects["bad_fact"] == KEPT_PER_KIND
    assert anomaly_kinds(listed) == ["bad_fact"] * KEPT_PER_KIND


def test_of_a_terminal_that_comes_and_goes_all_day_the_newest_events_are_kept(
    listed: sa.Engine, store: Store, new_id: Ids
) -> None:
    def come_and_go(since: int, till: int, *, into: Store) -> None:
        into.commit(
            [
                delivery(state(presence, session), Up.STATE)
                for session in range(since, till)
                for presence in (Presence.BIRTH, Presence.LEAVING)
            ],
            NOW_MS + since,
        )

    def kept() -> list[int]:
        query = sa.select(db.timeline.c.detail).order_by(db.timeline.c.id)
        with db.reading(listed) as connection:
            return [detail["session"] for detail in connection.execute(query).scalars() if "session" in detail]

    come_and_go(1, 300, into=store)
    assert kept() == [session for session in range(1, 300) for _ in "ab"]
    come_and_go(300, 800, into=store)
    assert kept() == [session for session in range(300, 800) for _ in "ab"]
    restarted = Store(listed, new_id=new_id)
    restarted.load()
    for session in range(800, 803):
        come_and_go(session, session + 1, into=restarted)
    assert kept() == [session for session in range(303, 803) for _ in "ab"]


@pytest.mark.parametrize(("first", "last"), [(7, 5), (2, None), (SEQ_MAX + 1, SEQ_MAX), (1, SEQ_MAX + 1)])
def test_a_birth_that_tells_of_facts_that_cannot_be_moves_no_watermark(
    listed: sa.Engine, store: Store, first: int, last: int | None
) -> None:
    committed = store.commit([birth(1, first=first, last=last), fact(1)], NOW_MS)
    assert (committed.born, committed.rejects) == (frozenset(), {"bad_state": 1})
    assert watermark(listed) == 1
    assert anomaly_kinds(listed) == ["bad_state"]


def test_a_fact_with_a_number_beyond_every_journal_is_refused(listed: sa.Engine, store: Store) -> None:
    assert store.commit([fact(SEQ_MAX), fact(SEQ_MAX + 1)], NOW_MS).rejects == {"bad_fact": 1}
    assert stored_seqs(listed) == [SEQ_MAX]


def test_a_terminal_gets_only_so_many_journals_and_those_that_it_has_go_on(
    listed: sa.Engine, store: Store, new_id: Ids
) -> None:
    journals = [number.to_bytes(16) for number in range(JOURNALS_MAX + 2)]
    births = [birth(session, journal=journal) for session, journal in enumerate(journals, 1)]
    assert store.commit(births[:-1], NOW_MS).rejects == {"too_many_journals": 1}
    restarted = Store(listed, new_id=new_id)
    restarted.load()
    late = [births[-1], fact(1, journal=journals[-1]), fact(1, journal=journals[5]), fact(1, terminal="t-2")]
    again = restarted.commit(late, NOW_MS)
    assert (again.facts_new, again.rejects) == (2, {"too_many_journals": 2})
    assert set(anomaly_kinds(listed)) == {"too_many_journals"}
    with db.reading(listed) as connection:
        kept = {journal.journal for journal in queries.journals(connection, "t-1")}
    assert kept == {journal.hex() for journal in journals[:JOURNALS_MAX]}
