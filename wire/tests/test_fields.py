from __future__ import annotations

import re
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import cbor, fields
from wire.fields import Message, MessageRefusedError
from wire.messages import Presence, State
from wire.tests.examples import KINDS, any_message, fields_of, outside

EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
BIG = 1 << 20
FEW = settings(max_examples=20)
ONE_OR_TWO = settings(max_examples=2)


@EACH_KIND
@FEW
@given(st.data())
def test_a_message_survives_the_way_there_and_back(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(any_message(kind))
    encoded = fields.encode(message)
    assert fields.decode(encoded, kind, max_bytes=BIG) == message
    assert fields.from_map(fields.to_map(message), kind) == message


@EACH_KIND
@FEW
@given(st.data())
def test_a_newer_peer_may_say_more(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(any_message(kind))
    unknown = st.integers(-(1 << 40), 1 << 40).filter(lambda key: key not in kind.KEYS) | st.text(max_size=5)
    values = st.none() | st.integers(0, 9) | st.binary(max_size=3) | st.lists(st.booleans(), max_size=2)
    more = data.draw(st.dictionaries(unknown, values, max_size=4))
    wider = cbor.encode({**fields.to_map(message), **more})
    assert fields.decode(wider, kind, max_bytes=BIG) == message


@EACH_KIND
@ONE_OR_TWO
@given(st.data())
def test_a_value_out_of_bounds_or_of_another_type_is_neither_read_nor_sent(
    kind: type[Message], data: st.DataObject
) -> None:
    good = data.draw(any_message(kind))
    for name, value in outside(kind):
        key = next(key for key, field in kind.KEYS.items() if field == name)
        with pytest.raises(MessageRefusedError) as caught:
            fields.decode(cbor.encode({**fields.to_map(good), key: value}), kind, max_bytes=BIG)
        assert name in caught.value.reason
        if value is not None:
            values = {field: getattr(good, field) for field in fields_of(kind)} | {name: value}
            with pytest.raises(MessageRefusedError):
                fields.encode(kind(**values))


@EACH_KIND
@FEW
@given(st.data())
def test_a_missing_field_takes_its_default_or_is_refused(kind: type[Message], data: st.DataObject) -> None:
    encoded = fields.to_map(data.draw(any_message(kind)))
    default = {field.name: field.default for field in msgspec.structs.fields(kind) if not field.required}
    for key in encoded:
        name = kind.KEYS[key]
        rest = {other: value for other, value in encoded.items() if other != key}
        if name in default:
            assert getattr(fields.from_map(rest, kind), name) == default[name]
        else:
            with pytest.raises(MessageRefusedError, match=name):
                fields.from_map(rest, kind)


@EACH_KIND
@FEW
@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_raise_anything_else(kind: type[Message], data: bytes) -> None:
    for candidate in (data, b"\xa1\x01" + data, b"\x81" + data):
        try:
            fields.decode(candidate, kind)
        except MessageRefusedError:
            continue


@EACH_KIND
@FEW
@given(st.data())
def test_no_change_to_real_bytes_makes_decoding_raise_anything_else(kind: type[Message], data: st.DataObject) -> None:
    encoded = bytearray(fields.encode(data.draw(any_message(kind))))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        fields.decode(bytes(encoded), kind, max_bytes=BIG)
    except MessageRefusedError:
        return


@EACH_KIND
@pytest.mark.parametrize("value", [None, 0, True, [], [1], "text", b"bytes"])
def test_what_is_not_a_map_is_not_a_message(kind: type[Message], value: object) -> None:
    with pytest.raises(MessageRefusedError):
        fields.decode(cbor.encode(value), kind)


@EACH_KIND
def test_every_field_has_exactly_one_key(kind: type[Message]) -> None:
    assert sorted(kind.KEYS.values()) == sorted(fields_of(kind))
    assert all(type(key) is int for key in kind.KEYS)


def test_text_is_never_taken_for_the_base64_of_bytes() -> None:
    state = {1: 1, 2: "A" * 22, 3: 1, 4: bytes(16), 5: 0}
    with pytest.raises(MessageRefusedError, match="boot"):
        fields.from_map(state, State)


def test_left_out_and_null_are_not_two_forms_of_one_message() -> None:
    state = fields.to_map(State(Presence.BIRTH, bytes(16), 1, bytes(16), 0))
    assert 6 not in state
    with pytest.raises(MessageRefusedError, match="agent"):
        fields.from_map({**state, 6: None}, State)


class _Named(Message, frozen=True):
    number: Presence
    word: fields.Label
    KEYS: ClassVar = {1: "number", 2: "word"}


@pytest.mark.parametrize("value", [{1: 499370899, 2: "a"}, {1: 1, 2: "0499370899\n"}, {1: 1, 2: b"0499370899"}])
def test_the_reason_names_the_field_and_never_its_value(value: object) -> None:
    with pytest.raises(MessageRefusedError) as caught:
        fields.from_map(value, _Named)
    assert re.search(r"number|word", caught.value.reason)
    assert "499370899" not in caught.value.reason
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["کارت هوشمند ملی", "می‌شود", "govah 0.1.0", "۱۲۳", "a" * 64, "گ" * 64, "\U0001f600"])
def test_persian_words_with_their_joiners_are_plain_text(text: str) -> None:
    assert fields.from_map({1: 1, 2: text}, _Named).word == text


def test_a_message_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(MessageRefusedError, match="longer"):
        fields.decode(bytes(fields.MAX_MESSAGE_BYTES + 1), State)
