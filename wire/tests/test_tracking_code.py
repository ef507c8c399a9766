from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import tracking_code

ALPHABET = tracking_code.ALPHABET
ENTROPY = st.binary(min_size=16, max_size=16)


def hybrid_check(values: list[int], m: int) -> int:
    """ISO 7064 hybrid system, modulus m+1 and m, stated as the standard's condition and not as its recipe.

    The check value c is the one for which (P + c) is 1 modulo m, where P is carried through modulo m+1. All m values
    are tried, so that no arithmetic of the code under test is repeated here.
    """
    fits = [c for c in range(m) if _carried([*values, c], m)]
    assert len(fits) == 1
    return fits[0]


def _carried(values: list[int], m: int) -> bool:
    carry = m
    for value in values[:-1]:
        reduced = (carry + value) % m
        carry = (m if reduced == 0 else reduced) * 2 % (m + 1)
    return (carry + values[-1]) % m == 1


def test_the_second_statement_agrees_with_published_vectors() -> None:
    decimal = "0123456789"
    alphanumeric = decimal + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    # ISO 7064 itself prints 0794 -> 5 for MOD 11,10 and A12425GABC1234002 -> M for MOD 37,36 (the GRid example)
    assert hybrid_check([int(c) for c in "0794"], 10) == 5
    assert alphanumeric[hybrid_check([alphanumeric.index(c) for c in "A12425GABC1234002"], 36)] == "M"
    # German tax number and Croatian OIB are MOD 11,10, with examples that their agencies publish
    assert hybrid_check([int(c) for c in "8609574271"], 10) == 9
    assert hybrid_check([int(c) for c in "3339200596"], 10) == 1
    assert hybrid_check([int(c) for c in "9457740319"], 10) == 4


@given(st.lists(st.integers(0, 29), min_size=15, max_size=15))
def test_the_check_symbol_is_that_of_the_second_statement(values: list[int]) -> None:
    symbols = "".join(ALPHABET[value] for value in values)
    assert tracking_code.check_symbol(symbols) == ALPHABET[hybrid_check(values, 30)]


def test_the_alphabet_has_thirty_symbols_and_no_look_alikes() -> None:
    assert len(set(ALPHABET)) == len(ALPHABET) == 30
    assert not set("01ILOU") & set(ALPHABET)


def codes(count: int) -> list[str]:
    chance = random.Random(7064)
    return [tracking_code.make(chance.randbytes(16)).replace("-", "") for _ in range(count)]


def accepted(text: str) -> bool:
    try:
        tracking_code.parse(text)
    except tracking_code.TrackingCodeError:
        return False
    return True


@pytest.mark.requirement("B6")
def test_every_single_wrong_symbol_of_a_code_is_noticed() -> None:
    for code in codes(60):
        for position in range(16):
            for symbol in set(ALPHABET) - {code[position]}:
                assert not accepted(code[:position] + symbol + code[position + 1 :])


def step(carry: int, value: int) -> int:
    return ((carry + value) % 30 or 30) * 2 % 31


def test_every_wrong_symbol_is_noticed_in_every_state_of_the_check() -> None:
    # a step is a one-to-one map of the carry for each value, and of the value for each carry: a difference never dies
    for value in range(30):
        assert len({step(carry, value) for carry in range(1, 31)}) == 30
    for carry in range(1, 31):
        assert len({step(carry, value) for value in range(30)}) == 30


@pytest.mark.requirement("B6")
def test_two_neighbours_that_changed_places_are_noticed_but_for_sixty_of_26100_cases() -> None:
    pairs = [(carry, a, b) for carry in range(1, 31) for a in range(30) for b in range(30) if a != b]
    missed = [pair for pair in pairs if step(step(pair[0], pair[1]), pair[2]) == step(step(pair[0], pair[2]), pair[1])]
    assert (len(pairs), len(missed)) == (26_100, 60)


def test_no_swap_is_missed_that_the_count_does_not_explain() -> None:
    tried = missed = 0
    for code in codes(400):
        for position in range(15):
            a, b = code[position], code[position + 1]
            if a != b:
                tried += 1
                missed += accepted(code[:position] + b + a + code[position + 2 :])
    assert tried > 5000
    assert missed / tried < 0.01


@given(ENTROPY)
def test_a_made_code_is_its_own_canonical_form(entropy: bytes) -> None:
    code = tracking_code.make(entropy)
    assert tracking_code.parse(code) == code
    assert [len(group) for group in code.split("-")] == [4, 4, 4, 4]


@given(ENTROPY)
def test_a_code_typed_in_any_way_a_person_types_is_the_same_code(entropy: bytes) -> None:
    code = tracking_code.make(entropy)
    persian = "".join(chr(0x06F0 + int(c)) if c.isdigit() else c for c in code)
    arabic = "".join(chr(0x0660 + int(c)) if c.isdigit() else c for c in code)
    for typed in (code.lower(), code.replace("-", ""), code.replace("-", " "), code.replace("-", "\u2011")):
        assert tracking_code.parse(typed) == code
    for typed in (persian, arabic, f"\u200e{persian}\u200f", f"\u2066{code}\u2069\r\n", f"  {persian.lower()}\t"):
        assert tracking_code.parse(typed) == code


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "2222", "2" * 15, "2" * 17, "0" * 16, "I" * 16, "O" * 16, "1" * 16, "U" * 16, "2" * 1000),
        *("2222-2222-2222-222\x00", "2222_2222_2222_2222", "۰" * 16, "é" * 16, "ß" * 8, "\u200c" * 100),
    ],
)
def test_what_cannot_be_a_code_is_refused(text: str) -> None:
    assert not accepted(text)


def test_a_letter_that_only_looks_like_ours_when_capitalised_is_refused() -> None:
    code = next(code for code in codes(400) if "S" in code)
    assert accepted(code)
    assert not accepted(code.replace("S", "ſ"))
    assert not accepted(code.translate({ord(c): ord(c) + 0xFEE0 for c in ALPHABET}))


@given(st.text(max_size=80))
def test_no_text_makes_parse_raise_anything_else(text: str) -> None:
    accepted(text)


def test_entropy_of_another_length_is_a_mistake_of_the_caller() -> None:
    for length in (0, 15, 17):
        with pytest.raises(ValueError, match="16"):
            tracking_code.make(bytes(length))


def test_every_symbol_stands_at_every_place_about_equally_often() -> None:
    drawn = codes(6000)
    for position in range(15):
        seen = [sum(code[position] == symbol for code in drawn) for symbol in ALPHABET]
        assert 120 < min(seen) <= max(seen) < 290
