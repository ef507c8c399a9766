from __future__ import annotations

import pytest
import sqlalchemy as sa

from fleet_server import db, queries
from fleet_server.broker.door import Delivery, Published
from fleet_server.ingest.down import _PAGE, MARK_EVERY_MS, MARKS_AFTER_WILL_MS, Marks, Outbox
from fleet_server.ingest.metrics import IngestMetrics
from fleet_server.ingest.store import Store
from fleet_server.tests.conftest import NOW_MS, Ids
from fleet_server.tests.test_presence import JOURNAL, state
from fleet_server.tests.test_store import birth, delivery, fact
from wire import fields, topics
from wire.failures import Failure
from wire.messages import Command, Mark, Presence, Result
from wire.topics import Down, Up

KEY = ("t-1", JOURNAL)


class Door:
    """A broker door that notes what is published and answers as the test says."""

    def __init__(self) -> None:
        self.connected = True
        self.answers: list[Published] = []
        self.sent: list[tuple[str, bytes, int]] = []

    async def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> Published:
        self.sent.append((topic, payload, expiry_s))
        return self.answers.pop(0) if self.answers else Published.STORED

    def marks(self) -> list[Mark]:
        return [fields.decode(body, Mark) for topic, body, _ in self.sent if topic == topics.down("t-1", Down.MARK)]

    def commands(self) -> list[Command]:
        own = topics.down("t-1", Down.COMMAND)
        return [fields.decode(body, Command) for topic, body, _ in self.sent if topic == own]


class Clock:
    def __init__(self, ms: int = NOW_MS) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticks() -> Clock:
    """The clock that nobody can set. It stands at little, as after the machine's start."""
    return Clock(7)


@pytest.fixture
def store(listed: sa.Engine, new_id: Ids) -> Store:
    return Store(listed, new_id=new_id)


@pytest.fixture
def marks(store: Store, door: Door, clock: Clock, ticks: Clock) -> Marks:
    return Marks(store, door, IngestMetrics(), now_ms=clock, tick_ms=ticks)


@pytest.fixture
def outbox(listed: sa.Engine, store: Store, door: Door, clock: Clock, ticks: Clock) -> Outbox:
    return Outbox(listed, store, door, IngestMetrics(), now_ms=clock, tick_ms=ticks)


class Admin:
    """Somebody who gives commands to ``t-1`` and looks what became of them."""

    def __init__(self, engine: sa.Engine, new_id: Ids) -> None:
        self._engine = engine
        self._new_id = new_id

    def give(self) -> str:
        with db.writing(self._engine) as connection:
            return queries.request_health(connection, "t-1", command_id=self._new_id(), now_ms=NOW_MS)

    def row(self) -> queries.OutboxRow:
        with db.reading(self._engine) as connection:
            return queries.commands(connection, "t-1")[0]


@pytest.fixture
def admin(listed: sa.Engine, new_id: Ids) -> Admin:
    return Admin(listed, new_id)


async def test_a_mark_says_what_is_committed_when_it_is_sent(store: Store, marks: Marks, door: Door) -> None:
    marks.want([KEY], resync=False)
    store.commit([fact(1), fact(2)], NOW_MS)
    await marks.send_due()
    assert door.marks() == [Mark(journal=JOURNAL, stored=2, server_ms=NOW_MS, resync=False)]


async def test_marks_merge_to_one_a_second_but_a_birth_does_not_wait(
    store: Store, marks: Marks, door: Door, ticks: Clock
) -> None:
    store.commit([fact(1)], NOW_MS)
    for _ in range(5):
        marks.want([KEY], resync=False)
        await marks.send_due()
        ticks.ms += 10
    assert len(door.marks()) == 1
    marks.want([KEY], resync=True)
    marks.want([KEY], resync=False)
    await marks.send_due()
    assert [mark.resync for mark in door.marks()] == [False, True]
    marks.want([KEY], resync=False)
    ticks.ms += MARK_EVERY_MS
    await marks.send_due()
    assert len(door.marks()) == 3
    assert not marks.wanted.is_set()


async def test_a_mark_that_the_broker_did_not_take_is_sent_again_with_its_resync(
    marks: Marks, door: Door, store: Store
) -> None:
    store.commit([fact(1)], NOW_MS)
    door.answers = [Published.RETRY]
    marks.want([KEY], resync=True)
    await marks.send_due()
    door.connected = False
    await marks.send_due()
    assert len(door.marks()) == 1
    door.connected = True
    await marks.send_due()
    assert [mark.resync for mark in door.marks()] == [True, True]


async def test_who_is_online_is_told_from_time_to_time_and_nobody_else(marks: Marks, door: Door, store: Store) -> None:
    store.commit([birth(1), fact(1, terminal="t-2")], NOW_MS)
    marks.want_online()
    await marks.send_due()
    assert [topic for topic, _, _ in door.sent] == [topics.down("t-1", Down.MARK)]


async def test_a_will_is_a_hint_and_marks_go_out_a_while_longer_but_not_after_a_leave(
    marks: Marks, door: Door, store: Store, ticks: Clock
) -> None:
    async def told() -> bool:
        before = len(door.sent)
        ticks.ms += MARK_EVERY_MS
        marks.want_online()
        await marks.send_due()
        return len(door.sent) > before

    store.commit([birth(1)], NOW_MS)
    assert await told()
    store.commit([lost(1)], NOW_MS)
    assert await told()
    ticks.ms += MARKS_AFTER_WILL_MS
    assert not await told()
    store.commit([birth(2)], NOW_MS)
    assert await told()
    store.commit([delivery(state(Presence.LEAVING, 2), Up.STATE)], NOW_MS)
    assert not await told()


def lost(session: int) -> Delivery:
    return delivery(state(Presence.LOST, session), Up.STATE)


async def test_what_a_full_broker_dropped_is_asked_for_again_and_ever_more_rarely_while_it_does_not_come(
    marks: Marks, door: Door, store: Store
) -> None:
    store.commit([birth(1), fact(1), *(fact(seq) for seq in range(20, 40))], NOW_MS)

    async def asked() -> bool:
        marks.want_online()
        before = len(door.marks())
        await marks.send_due()
        return [mark.resync for mark in door.marks()[before:]] == [True]

    assert [await asked() for _ in range(10)] == [at in (0, 1, 2, 4, 8) for at in range(10)]
    assert sum([await asked() for _ in range(10, 1290)]) == len([16, 32, 64, *range(128, 1290, 64)])
    store.commit([fact(seq) for seq in range(2, 10)], NOW_MS)
    assert await asked()
    store.commit([fact(seq) for seq in range(10, 20)], NOW_MS)
    assert not await asked()


async def test_a_clock_that_is_set_back_holds_no_mark_back(
    marks: Marks, door: Door, store: Store, clock: Clock, ticks: Clock
) -> None:
    store.commit([fact(1)], NOW_MS)
    marks.want([KEY], resync=False)
    await marks.send_due()
    clock.ms -= 3_600_000
    ticks.ms += MARK_EVERY_MS
    marks.want([KEY], resync=False)
    await marks.send_due()
    assert [mark.server_ms for mark in door.marks()] == [NOW_MS, NOW_MS - 3_600_000]


async def test_a_command_waits_for_the_terminal_and_is_sent_once_while_nothing_is_lost(
    admin: Admin, store: Store, outbox: Outbox, door: Door, ticks: Clock
) -> None:
    wanted = admin.give()
    await outbox.poll()
    assert door.commands() == []
    store.commit([birth(1)], NOW_MS)
    for _ in range(4):
        await outbox.poll()
        ticks.ms += 5000
    assert [command.id.hex() for command in door.commands()] == [wanted]
    assert admin.row().sent_ms == NOW_MS


async def test_a_command_that_nobody_heard_is_sent_again_until_it_is_stored(
    admin: Admin, store: Store, outbox: Outbox, door: Door, ticks: Clock
) -> None:
    store.commit([birth(1)], NOW_MS)
    admin.give()
    door.answers = [Published.NOBODY, Published.RETRY]
    for _ in range(5):
        await outbox.poll()
        ticks.ms += 2000
    assert len(door.commands()) == 3


async def test_every_birth_gets_the_open_commands_again_and_none_that_is_closed(
    admin: Admin, store: Store, outbox: Outbox, door: Door
) -> None:
    store.commit([birth(1)], NOW_MS)
    wanted = bytes.fromhex(admin.give())
    await outbox.poll()
    await outbox.resend("t-1")
    assert [command.id for command in door.commands()] == [wanted, wanted]
    store.commit([delivery(Result(id=wanted, failure=Failure.NONE, at_ms=1), Up.RESULT)], NOW_MS)
    await outbox.resend("t-1")
    assert len(door.commands()) == 2


async def test_an_expired_command_is_closed_and_never_sent(
    admin: Admin, store: Store, outbox: Outbox, door: Door, clock: Clock
) -> None:
    admin.give()
    clock.ms += queries.COMMAND_LIFE_MS
    store.commit([birth(1)], NOW_MS)
    await outbox.poll()
    await outbox.resend("t-1")
    assert door.commands() == []
    assert admin.row().result == Failure.COMMAND_EXPIRED


async def test_a_command_lives_at_the_broker_no_longer_than_its_deadline(
    admin: Admin, store: Store, outbox: Outbox, door: Door, clock: Clock
) -> None:
    store.commit([birth(1)], NOW_MS)
    admin.give()
    clock.ms += queries.COMMAND_LIFE_MS - 2500
    await outbox.poll()
    assert [expiry_s for _, _, expiry_s in door.sent] == [2]


async def test_a_new_ingest_sends_again_what_the_one_before_may_have_sent(
    listed: sa.Engine, admin: Admin, store: Store, outbox: Outbox, door: Door
) -> None:
    store.commit([birth(1)], NOW_MS)
    admin.give()
    await outbox.poll()
    await Outbox(listed, store, door, IngestMetrics(), now_ms=Clock(), tick_ms=Clock()).poll()
    assert len(door.commands()) == 2


async def test_a_command_to_a_terminal_that_is_away_is_closed_in_a_fleet_where_nothing_else_happens(
    admin: Admin, outbox: Outbox, clock: Clock
) -> None:
    admin.give()
    await outbox.poll()
    clock.ms += queries.COMMAND_LIFE_MS
    await outbox.poll()
    assert admin.row().result == Failure.COMMAND_EXPIRED


async def test_more_open_commands_than_one_page_keep_none_back(
    listed: sa.Engine, store: Store, outbox: Outbox, door: Door, new_id: Ids
) -> None:
    away = [f"a-{number}" for number in range(_PAGE + 5)]
    here = [f"b-{number}" for number in range(_PAGE + 5)]
    with db.writing(listed) as connection:
        rows = [{"serial": serial, "added_ms": NOW_MS} for serial in away + here]
        db.insert_ignoring(connection, db.terminals, rows)
        for serial in [*away, *here, "t-1"]:
            queries.request_health(connection, serial, command_id=new_id(), now_ms=NOW_MS)
    born = state(Presence.BIRTH, 1)
    store.commit([delivery(born, Up.STATE, terminal=serial) for serial in [*here, "t-1"]], NOW_MS)
    for _ in range(2):
        await outbox.poll()
    assert sorted(topic for topic, _, _ in door.sent) == sorted(
        topics.down(serial, Down.COMMAND) for serial in [*here, "t-1"]
    )


async def test_commands_that_wait_are_tried_again_by_a_clock_that_nobody_sets(
    admin: Admin, store: Store, outbox: Outbox, door: Door, ticks: Clock
) -> None:
    store.commit([birth(1)], NOW_MS)
    admin.give()
    door.answers = [Published.NOBODY]
    await outbox.poll()
    await outbox.poll()
    assert len(door.commands()) == 1
    ticks.ms += 2000
    await outbox.poll()
    assert len(door.commands()) == 2
