from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import tlv
from edge_agent.cards.errors import CardDataError

TAGS = st.sampled_from([0x04, 0x30, 0x5C, 0x77, 0x5F1F, 0x7F66, 0xDF20, 0x5F8101])


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_every_length_form_is_read_back(size: int) -> None:
    data = tlv.encode(0x77, bytes(size))
    assert tlv.only(data, 0x77) == bytes(size)
    assert tlv.header(data) == (0x77, len(data) - size, size)


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=20))
def test_what_is_encoded_is_parsed(items: list[tuple[int, bytes]]) -> None:
    data = b"".join(tlv.encode(tag, value) for tag, value in items)
    assert [(item.tag, item.value) for item in tlv.parse(data)] == items


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_are_refused_as_card_data(data: bytes) -> None:
    for parse in (tlv.parse, tlv.header, tlv.tags, lambda data: tlv.check_bounds(data, max_depth=8, max_count=50)):
        try:
            parse(data)
        except CardDataError:
            continue


@pytest.mark.parametrize(
    "lie",
    [
        "",
        "77",
        "5f",
        "5f1f",
        "7702aa",
        "7780aa0000",
        "7781",
        "778200",
        "7784000000010a",
        "77ff",
        "5fffffff0100",
    ],
)
def test_lying_lengths_and_broken_headers_are_refused(lie: str) -> None:
    with pytest.raises(CardDataError):
        tlv.only(bytes.fromhex(lie), 0x77)


def test_too_many_objects_are_refused() -> None:
    with pytest.raises(CardDataError):
        tlv.parse(b"\x04\x00" * (tlv.MAX_COUNT + 1))
    assert len(tlv.parse(b"\x04\x00" * tlv.MAX_COUNT)) == tlv.MAX_COUNT


def test_too_deep_or_too_crowded_a_tree_is_refused() -> None:
    nested = b""
    for _ in range(10):
        nested = tlv.encode(0x30, nested)
    tlv.check_bounds(nested, max_depth=11, max_count=10)
    with pytest.raises(CardDataError):
        tlv.check_bounds(nested, max_depth=9, max_count=10)
    with pytest.raises(CardDataError):
        tlv.check_bounds(nested, max_depth=11, max_count=9)


def test_a_repeated_object_is_refused_where_one_is_meant() -> None:
    objects = tlv.parse(bytes.fromhex("5c0161" + "5c0175" + "0400"))
    assert tlv.find(objects, 0x04) == b""
    assert tlv.find(objects, 0x02) is None
    with pytest.raises(CardDataError):
        tlv.find(objects, 0x5C)
    with pytest.raises(CardDataError):
        tlv.need(objects, 0x02)


def test_a_value_never_shows_in_a_repr() -> None:
    assert "PERSONAL" not in repr(tlv.parse(tlv.encode(0x04, b"PERSONAL")))
