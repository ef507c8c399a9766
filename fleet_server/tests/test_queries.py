from __future__ import annotations

import pytest
import sqlalchemy as sa

from fleet_server import db, queries
from fleet_server.errors import RequestRefusedError
from fleet_server.ingest.store import Store
from fleet_server.queries import UnknownTerminalError
from fleet_server.tests.conftest import NOW_MS, Ids
from fleet_server.tests.test_presence import JOURNAL, OTHER, health
from fleet_server.tests.test_store import birth, delivery, fact
from wire.topics import Up


def test_terminals_are_paged_by_serial_and_all_are_found_once(engine: sa.Engine) -> None:
    serials = [f"t-{number:03}" for number in range(25)]
    with db.writing(engine) as connection:
        db.insert_ignoring(connection, db.terminals, [{"serial": serial, "added_ms": 1} for serial in serials])
        found: list[str] = []
        while page := queries.list_terminals(connection, after=found[-1] if found else "", limit=10):
            found += [terminal.serial for terminal in page]
        assert found == serials
        assert queries.list_terminals(connection, presence="online") == []
        assert len(queries.list_terminals(connection, limit=10**9)) == 25


def test_facts_are_paged_newest_first_and_all_are_found_once(listed: sa.Engine, new_id: Ids) -> None:
    store = Store(listed, new_id=new_id)
    store.commit([fact(seq) for seq in range(1, 24)], NOW_MS)
    store.commit([fact(seq, journal=OTHER) for seq in range(1, 4)], NOW_MS)
    with db.reading(listed) as connection:
        found: list[tuple[bytes, int]] = []
        cursor = ""
        while page := queries.facts(connection, "t-1", cursor=cursor, limit=5):
            found += [(row.fact.journal, row.fact.seq) for row in page]
            cursor = page[-1].cursor
    assert found == [(OTHER, seq) for seq in (3, 2, 1)] + [(JOURNAL, seq) for seq in range(23, 0, -1)]


def test_the_timeline_is_paged_newest_first(listed: sa.Engine, new_id: Ids) -> None:
    store = Store(listed, new_id=new_id)
    for session in range(1, 8):
        store.commit([birth(session)], NOW_MS + session)
    with db.reading(listed) as connection:
        first = queries.timeline(connection, "t-1", limit=4)
        second = queries.timeline(connection, "t-1", before=first[-1].id, limit=100)
    assert [event.at_ms for event in first] == [NOW_MS + at for at in (7, 6, 5, 4)]
    assert len({event.id for event in first + second}) == 9


@pytest.mark.parametrize("cursor", ["x", "1.2", "a.b.c", "1.zz.1", "1" * 5000])
def test_a_cursor_that_is_not_ours_is_refused(listed: sa.Engine, cursor: str) -> None:
    with db.reading(listed) as connection:
        with pytest.raises(RequestRefusedError):
            queries.facts(connection, "t-1", cursor=cursor)
        with pytest.raises(RequestRefusedError):
            queries.timeline(connection, "t-1", before="not hex")


def test_asking_for_health_twice_gives_the_same_open_command(listed: sa.Engine, new_id: Ids) -> None:
    with db.writing(listed) as connection:
        first = queries.request_health(connection, "t-1", command_id=new_id(), now_ms=NOW_MS)
        assert queries.request_health(connection, "t-1", command_id=new_id(), now_ms=NOW_MS) == first
        later_ms = NOW_MS + queries.COMMAND_LIFE_MS
        assert queries.request_health(connection, "t-1", command_id=new_id(), now_ms=later_ms) != first
        with pytest.raises(UnknownTerminalError):
            queries.request_health(connection, "t-9", command_id=new_id(), now_ms=NOW_MS)


def test_watermarks_whose_sum_overflows_64_bits_stop_no_page(listed: sa.Engine) -> None:
    with db.writing(listed) as connection:
        rows = [{"terminal": "t-1", "journal": bytes([at]) * 16, "stored_through": 2**62} for at in range(4)]
        db.upsert(connection, db.journals, rows, ["stored_through"])
    with db.reading(listed) as connection:
        assert queries.numbers(connection, now_ms=NOW_MS).facts_through == 2**64


def test_the_numbers_add_up(listed: sa.Engine, new_id: Ids) -> None:
    store = Store(listed, new_id=new_id)
    store.commit([birth(1), delivery(health(1), Up.HEALTH), fact(1), fact(2), fact(2, at_ms=9)], NOW_MS)
    with db.reading(listed) as connection:
        numbers = queries.numbers(connection, now_ms=NOW_MS)
        assert numbers.terminals == {"never": 1, "online": 1, "left": 0, "lost": 0}
        assert (numbers.facts_through, numbers.anomalies) == (2, {"fact_conflict": 1})
        terminal = queries.terminal(connection, "t-1")
        assert (terminal.presence, terminal.reader, terminal.blocked) == ("online", 2, ())
        assert queries.count_facts(connection, "t-1") == 2
        with pytest.raises(UnknownTerminalError):
            queries.terminal(connection, "t-9")
