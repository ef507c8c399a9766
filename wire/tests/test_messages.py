from __future__ import annotations

import pytest

from wire import fields, messages
from wire.failures import Failure
from wire.tests.examples import fields_of

ALL = (messages.State, messages.Health, messages.Fact, messages.Mark, messages.Command, messages.Result)


def test_no_message_of_the_fleet_has_a_place_for_a_citizen() -> None:
    personal = ("name", "nid", "national", "card", "tracking", "code", "token", "birth", "photo", "pin", "phone", "sub")
    for kind in ALL:
        for field in fields_of(kind):
            assert not any(word in field for word in personal), field


def test_the_longest_message_of_each_kind_fits_the_limit() -> None:
    big = 2**53
    long_label, long_text = "گ" * 64, "گ" * 256
    longest = [
        messages.State(messages.Presence.LOST, bytes(16), big, bytes(16), big, long_label, long_label, big, big),
        messages.Health(
            bytes(16),
            big,
            big,
            big,
            messages.ReaderState.EMPTY,
            [Failure.BUSY] * 16,
            big,
            big,
            big,
            big,
            clock_trusted=True,
        ),
        messages.Fact(bytes(16), big, messages.FactKind.VISIT_ENDED, big, long_label, 4, Failure.BUSY, big, long_label),
        messages.Mark(bytes(16), big, big, resync=True),
        messages.Command(bytes(16), messages.CommandKind.REPORT_HEALTH, big),
        messages.Result(bytes(16), Failure.BUSY, big, long_text),
    ]
    assert {type(message) for message in longest} == set(ALL)
    for message in longest:
        assert len(fields.encode(message)) <= 1024


@pytest.mark.parametrize("seq", [0, -1, 2**53 + 1])
def test_a_fact_is_numbered_from_one(seq: int) -> None:
    with pytest.raises(fields.MessageRefusedError, match="seq"):
        fields.encode(messages.Fact(bytes(16), seq, messages.FactKind.AGENT_STARTED, 0))


def test_code_numbers_are_what_the_field_has_already_seen() -> None:
    # they are on disks and in flight: a renumbering must break a test, not a terminal
    assert {kind.name: kind.value for kind in messages.Presence} == {"BIRTH": 1, "LEAVING": 2, "LOST": 3}
    assert {kind.name: kind.value for kind in messages.FactKind} == {"VISIT_ENDED": 1, "AGENT_STARTED": 2}
    assert {kind.name: kind.value for kind in messages.CommandKind} == {"REPORT_HEALTH": 1}
    assert [kind.value for kind in messages.ReaderState] == [0, 1, 2, 3]
