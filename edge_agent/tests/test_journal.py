"""The journal keeps what it was given, in order, until the server has it and fourteen days more."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.errors import JournalError, JournalFullError
from edge_agent.journal import RESEND_AFTER_MS, RESEND_AT_ONCE, Journal, JournalLimits
from wire import fields
from wire.failures import Failure
from wire.messages import Fact, FactKind, Mark

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.db", JournalLimits()) as journal:
        yield journal


async def three_facts(journal: Journal) -> None:
    for at_ms in (10, 20, 30):
        await journal.append(FactKind.AGENT_STARTED, at_ms, agent="0.1.0")


def mark(journal: Journal, stored: int, *, resync: bool = False) -> Mark:
    return Mark(journal=journal.id, stored=stored, server_ms=0, resync=resync)


async def unsent_numbers(journal: Journal) -> list[int]:
    return [seq for seq, _ in await journal.unsent(0, 100)]


async def test_facts_are_numbered_from_one_and_come_back_as_they_were_written(journal: Journal) -> None:
    await three_facts(journal)
    facts = [fields.decode(body, Fact) for _, body in await journal.unsent(0, 100)]
    assert [(fact.seq, fact.at_ms, fact.journal) for fact in facts] == [
        (1, 10, journal.id),
        (2, 20, journal.id),
        (3, 30, journal.id),
    ]


async def test_an_acknowledged_fact_is_not_sent_again_and_not_forgotten(journal: Journal) -> None:
    await three_facts(journal)
    await journal.mark_sent(2, at_ms=50)
    assert await unsent_numbers(journal) == [1, 3]
    assert (await journal.figures()).kept == 3


async def test_a_mark_settles_everything_up_to_it_even_what_the_broker_never_acknowledged(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 2), now_ms=100)
    assert await unsent_numbers(journal) == [3]


async def test_a_server_that_asks_to_resync_gets_everything_above_its_mark_again(journal: Journal) -> None:
    await three_facts(journal)
    for seq in (1, 2, 3):
        await journal.mark_sent(seq, at_ms=50)
    await journal.apply_mark(mark(journal, 1, resync=True), now_ms=100)
    assert await unsent_numbers(journal) == [2, 3]


async def test_a_server_restored_from_a_backup_gets_back_what_it_lost(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 3), now_ms=100)
    await journal.apply_mark(mark(journal, 1), now_ms=200)
    assert await unsent_numbers(journal) == [2, 3]


async def test_what_the_broker_acknowledged_and_then_dropped_is_sent_again_after_a_while(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 1), now_ms=1000)
    await journal.mark_sent(2, at_ms=1000)
    await journal.mark_sent(3, at_ms=5000)
    await journal.apply_mark(mark(journal, 1), now_ms=1000 + RESEND_AFTER_MS)
    assert await unsent_numbers(journal) == []
    await journal.apply_mark(mark(journal, 1), now_ms=1001 + RESEND_AFTER_MS)
    assert await unsent_numbers(journal) == [2]


async def test_a_mark_for_another_journal_changes_nothing(journal: Journal) -> None:
    await three_facts(journal)
    foreign = replace_mark(mark(journal, 3, resync=True), bytes(16))
    await journal.apply_mark(foreign, now_ms=100)
    assert await unsent_numbers(journal) == [1, 2, 3]


def replace_mark(original: Mark, journal_id: bytes) -> Mark:
    return Mark(journal=journal_id, stored=original.stored, server_ms=0, resync=original.resync)


async def test_while_nobody_has_said_the_time_nothing_is_taken_for_stored(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 3), now_ms=0)
    assert await journal.prune(now_ms=100 * DAY_MS) == 0
    await journal.apply_mark(mark(journal, 3), now_ms=100 * DAY_MS)
    assert await unsent_numbers(journal) == []


async def test_an_older_copy_of_a_journal_takes_a_new_id_so_that_no_number_is_used_twice(journal: Journal) -> None:
    await three_facts(journal)
    await journal.mark_sent(1, at_ms=5)
    old = journal.id
    assert not await journal.apply_mark(mark(journal, 9), now_ms=100)
    assert journal.id != old
    bodies = [fields.decode(body, Fact) for _, body in await journal.unsent(0, 100)]
    assert [(fact.seq, fact.journal) for fact in bodies] == [(2, journal.id), (3, journal.id)]
    assert (await journal.append(FactKind.AGENT_STARTED, 40, agent="0.1.0")).seq == 4


async def test_one_journal_has_one_agent(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j.db", JournalLimits()):
        with pytest.raises(JournalError, match="another agent"):
            Journal(tmp_path / "j.db", JournalLimits())
    async with Journal(tmp_path / "j.db", JournalLimits()):
        pass


async def test_a_fact_that_the_server_never_takes_does_not_bring_the_whole_journal_along(journal: Journal) -> None:
    for seq in range(1, RESEND_AT_ONCE + 5):
        await journal.append(FactKind.AGENT_STARTED, 10, agent="0.1.0")
        await journal.mark_sent(seq, at_ms=10)
    await journal.apply_mark(mark(journal, 0), now_ms=11 + RESEND_AFTER_MS)
    assert (await journal.figures()).unsent == RESEND_AT_ONCE


async def test_a_stored_fact_stays_fourteen_days_and_goes_on_the_fifteenth(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 2), now_ms=DAY_MS)
    assert await journal.prune(now_ms=15 * DAY_MS) == 0
    assert await journal.prune(now_ms=15 * DAY_MS + 1) == 2
    assert await unsent_numbers(journal) == [3]


async def test_numbers_are_never_given_twice_even_when_everything_was_pruned(journal: Journal) -> None:
    await three_facts(journal)
    await journal.apply_mark(mark(journal, 3), now_ms=1)
    await journal.prune(now_ms=15 * DAY_MS)
    assert (await journal.append(FactKind.AGENT_STARTED, 40, agent="0.1.0")).seq == 4


async def test_the_end_of_a_visit_is_one_transaction_with_its_fact(journal: Journal) -> None:
    await journal.open_visit("v1", "aud", None, 5, b"request")
    fact = await journal.end_visit("v1", 9, b"result", service="s", outcome=Failure.NONE, loa=2, took_ms=4)
    ended = await journal.visit("v1")
    assert ended is not None
    assert (ended.ended_seq, ended.result) == (fact.seq, b"result")
    assert await journal.visits_done_since(5) == 1


async def test_a_visit_ends_once_and_a_second_end_leaves_no_fact(journal: Journal) -> None:
    await journal.open_visit("v1", "aud", None, 5, b"request")
    await journal.end_visit("v1", 9, b"result", outcome=Failure.NONE)
    with pytest.raises(JournalError):
        await journal.end_visit("v1", 10, b"other", outcome=Failure.CARD_GONE)
    assert await unsent_numbers(journal) == [1]


async def test_the_same_idempotency_key_gives_the_visit_that_was_opened_first(journal: Journal) -> None:
    first = await journal.open_visit("v1", "aud", "key", 5, b"request")
    again = await journal.open_visit("v2", "aud", "key", 6, b"request")
    other_office = await journal.open_visit("v3", "other", "key", 7, b"request")
    assert (first.visit, again.visit, other_office.visit) == ("v1", "v1", "v3")
    assert await journal.visit_by_key("aud", "key") == first


async def test_visits_that_a_crash_left_open_are_found(journal: Journal) -> None:
    await journal.open_visit("v1", "aud", None, 5, b"")
    await journal.open_visit("v2", "aud", None, 6, b"")
    await journal.end_visit("v1", 9, b"result", outcome=Failure.NONE)
    assert [opened.visit for opened in await journal.unended_visits()] == ["v2"]


async def test_a_reopened_journal_keeps_its_id_its_facts_and_its_session_count(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j.db", JournalLimits()) as before:
        await three_facts(before)
        assert await before.next_session() == 1
    async with Journal(tmp_path / "j.db", JournalLimits()) as after:
        assert after.id == before.id
        assert await unsent_numbers(after) == [1, 2, 3]
        assert await after.next_session() == 2


async def test_two_new_journals_never_share_an_id(tmp_path: Path) -> None:
    async with Journal(tmp_path / "a.db", JournalLimits()) as a, Journal(tmp_path / "b.db", JournalLimits()) as b:
        assert a.id != b.id


async def test_at_its_limit_the_journal_takes_no_new_visit_but_still_the_end_of_one(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j.db", replace(JournalLimits(), max_facts=3)) as journal:
        await journal.open_visit("v1", "aud", None, 5, b"")
        await three_facts(journal)
        with pytest.raises(JournalFullError):
            await journal.check_room()
        await journal.end_visit("v1", 9, b"result", outcome=Failure.NONE)


async def test_a_full_disk_is_an_error_and_never_a_silent_loss(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j.db", replace(JournalLimits(), max_bytes=128 * 1024)) as journal:
        with pytest.raises(JournalError):
            await fill(journal)
        figures = await journal.figures()
        assert 0 < figures.kept == figures.last_seq


async def fill(journal: Journal) -> None:
    for number in range(10_000):
        await journal.open_visit(str(number), "aud", None, 5, bytes(1000))
        await journal.end_visit(str(number), 9, bytes(4000), outcome=Failure.NONE)


async def test_a_journal_of_a_newer_agent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    async with Journal(path, JournalLimits()):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(JournalError, match="newer"):
        Journal(path, JournalLimits())
