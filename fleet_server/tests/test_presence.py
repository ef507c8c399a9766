from __future__ import annotations

from itertools import product

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.ingest.presence import (
    LEFT,
    LOST,
    NEVER,
    ONLINE,
    Change,
    Seen,
    after_health,
    after_state,
    gone_silent,
    touched,
)
from wire.failures import Failure
from wire.messages import Health, Presence, ReaderState, State

BOOT, JOURNAL, OTHER = bytes(16), b"j" * 16, b"k" * 16


def state(presence: Presence, session: int, *, journal: bytes = JOURNAL, at_ms: int = 1000) -> State:
    return State(
        presence=presence,
        boot=BOOT,
        session=session,
        journal=journal,
        at_ms=at_ms,
        agent="1",
        profile="p",
        first_seq=1,
        last_seq=1,
    )


def health(session: int, uptime_s: int = 1, **changes: object) -> Health:
    values: dict[str, object] = {
        "boot": BOOT, "session": session, "at_ms": 1000 + uptime_s, "uptime_s": uptime_s,
        "reader": ReaderState.EMPTY, "blocked": [], "facts_unsent": 0, "facts_kept": 0, "journal_bytes": 0,
        "rss_kib": 0, "clock_trusted": True,
    }  # fmt: skip
    return Health(**(values | changes))  # type: ignore[arg-type] # built from a table of fields


def play(*messages: State | Health, seen: Seen | None = None) -> tuple[Seen, list[Change]]:
    seen = seen or Seen()
    changes: list[Change] = []
    for message in messages:
        if isinstance(message, Health):
            seen, more = after_health(seen, message, 5000)
        else:
            known = message.journal == seen.journal
            seen, more = after_state(seen, message, 5000, journal_known=known)
        changes += more
    return seen, changes


def test_birth_then_leave_then_the_next_birth() -> None:
    seen, changes = play(state(Presence.BIRTH, 1))
    assert (seen.presence, seen.session, seen.last_seen_ms) == (ONLINE, 1, 5000)
    assert changes[0] == Change(ONLINE, {"session": 1})
    seen, changes = play(state(Presence.LEAVING, 1), seen=seen)
    assert (seen.presence, [change.kind for change in changes]) == (LEFT, [LEFT])
    assert play(state(Presence.BIRTH, 2), seen=seen)[0].presence == ONLINE


def test_the_will_of_an_older_session_is_ignored() -> None:
    seen, _ = play(state(Presence.BIRTH, 2))
    assert play(state(Presence.LOST, 1), seen=seen) == (seen, [])
    assert play(state(Presence.LOST, 2), seen=seen)[0].presence == LOST


def test_a_will_after_a_leave_changes_nothing() -> None:
    seen, _ = play(state(Presence.BIRTH, 1), state(Presence.LEAVING, 1))
    assert play(state(Presence.LOST, 1), seen=seen) == (seen, [])


def test_the_will_is_not_a_sign_of_life() -> None:
    seen, _ = play(state(Presence.BIRTH, 1))
    after, _ = after_state(seen, state(Presence.LOST, 1), 9000, journal_known=True)
    assert after.last_seen_ms == 5000


def test_a_whole_history_delivered_again_changes_nothing() -> None:
    history: list[State | Health] = [
        state(Presence.BIRTH, 1), health(1, 5), health(1, 9, reader=ReaderState.CARD_PRESENT),
        state(Presence.LOST, 1), state(Presence.BIRTH, 2), health(2, 3, blocked=[Failure.JOURNAL_FULL]),
    ]  # fmt: skip
    seen, _ = play(*history)
    assert play(*history, seen=seen) == (seen, [])
    for at in range(len(history)):
        assert play(*history[at:], seen=seen) == (seen, [])


@given(st.permutations([state(Presence.BIRTH, 2), health(2, 3), health(2, 9, reader=ReaderState.NO_READER)]))
def test_in_whatever_order_the_topics_arrive_the_end_is_the_same(order: list[State | Health]) -> None:
    seen, _ = play(state(Presence.BIRTH, 1), state(Presence.LOST, 1))
    after, _ = play(*order, seen=seen)
    assert (after.presence, after.session, after.reader, after.uptime_s) == (ONLINE, 2, ReaderState.NO_READER, 9)


def test_silence_makes_lost_and_the_next_health_makes_online_again() -> None:
    seen, _ = play(state(Presence.BIRTH, 1), health(1, 1))
    assert gone_silent(seen, silent_ms=3000, limit_ms=3000) == (seen, [])
    lost, changes = gone_silent(seen, silent_ms=3001, limit_ms=3000)
    assert (lost.presence, [change.kind for change in changes]) == (LOST, [LOST])
    assert gone_silent(lost, silent_ms=9999, limit_ms=3000) == (lost, [])
    assert play(health(1, 2), seen=lost)[0].presence == ONLINE


def test_a_late_health_of_an_ended_session_brings_nobody_back() -> None:
    for end, late in product((Presence.LEAVING, Presence.LOST), (health(1, 1), health(1, 50))):
        seen, _ = play(state(Presence.BIRTH, 1), health(1, 5), state(end, 1))
        assert play(late, seen=seen)[0].presence in {LEFT, LOST}


def test_a_terminal_that_a_restored_server_has_never_heard_of_is_online_by_its_health() -> None:
    seen, _ = play(health(7))
    assert seen.presence == ONLINE
    assert (
        play(state(Presence.LOST, 7, journal=JOURNAL), seen=play(state(Presence.BIRTH, 7), seen=seen)[0])[0].presence
        == LOST
    )


def test_a_replaced_journal_is_believed_and_the_old_one_is_not_when_it_comes_back_late() -> None:
    seen, _ = play(state(Presence.BIRTH, 90, at_ms=5000), health(90))
    after, changes = after_state(seen, state(Presence.BIRTH, 1, journal=OTHER, at_ms=10), 6000, journal_known=False)
    assert (after.journal, after.session, after.presence) == (OTHER, 1, ONLINE)
    assert "journal_replaced" in [change.kind for change in changes]
    assert play(health(1), seen=after)[0].health_session == 1
    again, _ = after_state(after, state(Presence.BIRTH, 90, at_ms=9), 7000, journal_known=True)
    assert again is after
    assert after_state(after, state(Presence.LOST, 90), 7000, journal_known=True)[0] is after


def test_changes_of_reader_block_and_clock_are_told_once() -> None:
    seen, _ = play(state(Presence.BIRTH, 1), health(1, 1))
    seen, changes = play(
        health(1, 2, reader=ReaderState.NO_READER, blocked=[Failure.READER_ABSENT], clock_trusted=False),
        health(1, 3, reader=ReaderState.NO_READER, blocked=[Failure.READER_ABSENT], clock_trusted=False),
        seen=seen,
    )
    assert changes == [
        Change("reader", {"from": 2, "to": 1}),
        Change("blocked", {"from": [], "to": [43]}),
        Change("clock_trusted", {"from": True, "to": False}),
    ]


def test_a_late_report_of_a_replaced_journal_does_not_outrank_those_of_the_new_one() -> None:
    old, new = b"o" * 16, b"n" * 16
    seen, _ = play(msgspec.structs.replace(state(Presence.BIRTH, 500), boot=old), health(500, boot=old))
    replaced = msgspec.structs.replace(state(Presence.BIRTH, 1, journal=OTHER), boot=new)
    seen, _ = after_state(seen, replaced, 6000, journal_known=False)
    assert play(health(500, 99, boot=old), seen=seen) == (seen, [])
    assert play(health(1, 40, boot=new), seen=seen)[0].uptime_s == 40


def test_a_clock_that_was_set_back_does_not_keep_the_old_time_of_the_last_word() -> None:
    seen = touched(Seen(), 9_000_000, coarse_ms=1000)
    assert touched(seen, 9_000_500, coarse_ms=1000) is seen
    assert touched(seen, 5_400_000, coarse_ms=1000).last_seen_ms == 5_400_000


def test_nobody_is_lost_who_never_was_there() -> None:
    assert gone_silent(Seen(), silent_ms=10**12, limit_ms=1)[0].presence == NEVER


def test_the_first_birth_counts_whatever_its_clock_says_and_whether_facts_of_its_journal_came_before_it() -> None:
    born, _ = after_state(Seen(), state(Presence.BIRTH, 1, at_ms=0), 5000, journal_known=True)
    assert (born.presence, born.agent, born.profile) == (ONLINE, "1", "p")
