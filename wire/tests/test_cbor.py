from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import cbor

LIMIT = 4096

SCALARS = st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary() | st.text()
KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)

REFUSED = {
    "nothing at all": "",
    "one stray break": "ff",
    "a reserved length": "1c",
    "an integer in two bytes that fits one": "1801",
    "an integer in three bytes that fits two": "190018",
    "an integer in nine bytes that fits five": "1b00000000ffffffff",
    "a negative integer in two bytes that fits one": "3801",
    "a string length in two bytes that fits one": "580161",
    "an array length in two bytes that fits one": "980101",
    "a map length in two bytes that fits one": "b8010102",
    "an indefinite array": "9f01ff",
    "an indefinite map": "bf0102ff",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "a half float": "f93c00",
    "a single float": "fa3f800000",
    "a double float": "fb3ff0000000000000",
    "not a number": "f97e00",
    "undefined": "f7",
    "a simple value": "f0",
    "a simple value in two bytes": "f820",
    "false in two bytes": "f814",
    "a key twice": "a201010102",
    "a key twice as integer and true": "a20101f502",
    "a key twice as integer and float": "a20101f93c0002",
    "a key that is true": "a1f501",
    "a key that is null": "a1f601",
    "a key that is bytes": "a1410101",
    "a key that is an array": "a18001",
    "a key that is a map": "a1a001",
    "keys out of order": "a202010101",
    "a text key before an integer": "a2616101" + "0102",
    "a negative key before a positive one": "a220010001",
    "a longer text key first": "a262616101616201",
    "trailing bytes": "0100",
    "two items": "0101",
    "a cut array": "8201",
    "a cut map": "a101",
    "a cut string": "4201",
    "text that is not UTF-8": "61ff",
    "text with an encoded surrogate": "63eda080",
    "text with an overlong form": "62c080",
    "a date": "c06161",
    "a bignum that would fit an integer": "c24101",
    "a bignum beyond 64 bits": "c249010000000000000000",
    "a decimal fraction with a huge exponent": "c4821a3b9aca0001",
    "a bigfloat with a huge exponent": "c5821a3b9aca0001",
    "a rational with zero below": "d81e820100",
    "a regular expression": "d823615b",
    "a mail message": "d8246161",
    "a shared reference to itself": "d81c81d81d00",
    "a string reference": "d81900",
    "a set": "d901028101",
    "an address": "d9010444" + "01020304",
    "a self-described item": "d9d9f701",
    "a nested CBOR tag": "d8184101",
    "an array that claims 2^63 items": "9b7fffffffffffffff",
    "bytes that claim 2^63": "5b7fffffffffffffff",
    "a map that claims 2^63 pairs": "bb7fffffffffffffff",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_a_second_reading_is_refused(name: str) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cbor.decode(bytes.fromhex(REFUSED[name]), max_bytes=LIMIT)


@given(VALUES)
def test_every_value_survives_the_way_there_and_back(value: object) -> None:
    assert cbor.decode(cbor.encode(value), max_bytes=1 << 20) == value


@given(st.binary(max_size=64))
def test_all_that_is_accepted_encodes_to_the_same_bytes_again(data: bytes) -> None:
    try:
        value = cbor.decode(data, max_bytes=64)
    except cbor.CborRefusedError:
        return
    assert cbor.encode(value) == data


@given(VALUES, st.data())
def test_a_changed_bit_never_decodes_to_the_same_value(value: object, data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode(value))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        other = cbor.decode(bytes(encoded), max_bytes=1 << 20)
    except cbor.CborRefusedError:
        return
    assert cbor.encode(other) != cbor.encode(value)


@given(st.dictionaries(KEYS, st.none()))
def test_keys_stand_in_bytewise_order_of_their_encodings(value: dict[int | str, None]) -> None:
    keys = [bytes(cbor2.dumps(key)) for key in cbor2.loads(cbor.encode(value))]
    assert keys == sorted(keys)


def test_small_large_negative_and_text_keys_have_the_order_of_the_standard() -> None:
    # RFC 8949 section 4.2.1 gives this very order: 10, 100, -1, "z", "aa"
    assert cbor.encode({"aa": 0, "z": 0, -1: 0, 100: 0, 10: 0}).hex() == "a50a001864002000617a0062616100"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1000, "3903e7"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("ü", "62c3bc"),
        ("\U00010151", "64f0908591"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({1: 2, 3: 4}, "a201020304"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        ([True, False, None], "83f5f4f6"),
    ],
)
def test_the_examples_of_the_standard_encode_as_printed_there(value: object, text: str) -> None:
    # RFC 8949 appendix A
    assert cbor.encode(value).hex() == text
    assert cbor.decode(bytes.fromhex(text), max_bytes=LIMIT) == value


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusal has to come before any value exists: what runs afterwards is an error here."""

    def built(_value: object, _depth: int) -> object:
        raise AssertionError("a value was built")

    monkeypatch.setattr(cbor, "_ordered", built)


@pytest.mark.usefixtures("nothing_is_built")
def test_no_tag_of_any_number_is_looked_into() -> None:
    for tag in range(70_000):
        data = bytes(cbor2.dumps(cbor2.CBORTag(tag, [])))
        with pytest.raises(cbor.CborRefusedError):
            cbor.decode(data, max_bytes=LIMIT)


@pytest.mark.usefixtures("nothing_is_built")
def test_shared_references_that_would_unfold_for_hours_are_refused_at_once() -> None:
    levels, width = 8, 60
    shared = [b"\xd8\x1c\x98\x3c" + b"\x01" * width]
    shared += [b"\xd8\x1c\x98\x3c" + bytes([0xD8, 0x1D, level]) * width for level in range(levels - 1)]
    with pytest.raises(cbor.CborRefusedError):
        cbor.decode(bytes([0x80 | levels]) + b"".join(shared), max_bytes=LIMIT)


@pytest.mark.parametrize("opener", ["81", "a101", "c6", "d81c", "d9d9f7"])
@pytest.mark.parametrize("depth", [13, 100, 100_000])
def test_nesting_beyond_the_limit_is_refused(opener: str, depth: int) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cbor.decode(bytes.fromhex(opener) * depth + b"\x00", max_bytes=1 << 20)


def test_nesting_has_the_same_limit_both_ways() -> None:
    deepest: object = 0
    for _ in range(cbor.MAX_DEPTH):
        deepest = [deepest]
    assert cbor.decode(cbor.encode(deepest), max_bytes=LIMIT) == deepest
    with pytest.raises(cbor.CborRefusedError):
        cbor.encode([deepest])


def test_one_byte_more_than_the_limit_is_refused() -> None:
    assert cbor.decode(cbor.encode(bytes(10)), max_bytes=11) == bytes(10)
    with pytest.raises(cbor.CborRefusedError):
        cbor.decode(cbor.encode(bytes(10)), max_bytes=10)


@pytest.mark.parametrize(
    "value",
    [
        *(1.0, 1 << 64, -(1 << 64) - 1, {True: 1}, {None: 1}, {b"k": 1}, {1.0: 1}, {(1,): 1}, {1 << 64: 1}, {1, 2}),
        *(object(), bytearray(b"x"), "\ud800", {"\ud800": 1}, [[1.5]], {1: {2: float("nan")}}),
    ],
)
def test_what_could_not_be_read_again_is_not_written(value: object) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cbor.encode(value)


def test_the_reason_holds_none_of_the_bytes() -> None:
    with pytest.raises(cbor.CborRefusedError) as caught:
        cbor.decode(cbor2.dumps({"secret": 0.5, b"hidden": "0499370899"}), max_bytes=LIMIT)
    assert not any(word in caught.value.reason for word in ("secret", "hidden", "0499"))
