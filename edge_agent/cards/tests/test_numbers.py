from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import numbers


@pytest.mark.requirement("C4")
@pytest.mark.parametrize("valid", ["0076229645", "1583250689", "0011537027", "0012345679"])
def test_known_national_numbers_are_valid_in_three_scripts(valid: str) -> None:
    persian = "".join(chr(0x06F0 + int(digit)) for digit in valid)
    arabic = "".join(chr(0x0660 + int(digit)) for digit in valid)
    assert [numbers.national_number(text) for text in (valid, persian, arabic, f" {valid} ")] == [valid] * 4


@pytest.mark.requirement("C4")
@pytest.mark.parametrize(
    "wrong", ["1111111111", "0000000000", "0076229646", "", "12", "00762296451", "007622964a", "²" * 10]
)
def test_what_cannot_be_a_national_number_is_refused(wrong: str) -> None:
    assert numbers.national_number(wrong) is None


@pytest.mark.requirement("C4")
def test_lost_leading_zeros_come_back() -> None:
    assert numbers.national_number("76229645") == "0076229645"
    assert numbers.national_number("11537027") == "0011537027"


@pytest.mark.requirement("C4")
@given(st.from_regex(r"[0-9]{9}", fullmatch=True), st.integers(0, 9), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(nine: str, place: int, shift: int) -> None:
    # a change of the check digit between 0 and 1 and its neighbours is all that modulo 11 lets through
    whole = nine + numbers.national_number_check_digit(nine)
    if len(set(whole)) == 1:
        return
    assert numbers.national_number(whole) == whole
    if place == 9:
        spoilt = whole[:9] + str((int(whole[9]) + shift) % 10)
        assert numbers.national_number(spoilt) is None


@pytest.mark.requirement("C4")
def test_a_legal_persons_id_has_its_own_check_digit() -> None:
    assert numbers.legal_person_id("۱۰۳۸۰۲۸۴۷۹۰") == "10380284790"
    assert numbers.legal_person_id("10380284791") is None
    assert numbers.legal_person_id("10031094100") is None, "the service id of decree 000 is not one"


@given(st.text(max_size=80))
def test_any_text_is_a_number_or_is_not(text: str) -> None:
    for read in (numbers.national_number, numbers.legal_person_id):
        found = read(text)
        assert found is None or (found.isascii() and found.isdigit())


def test_two_spellings_of_a_name_compare_equal() -> None:
    assert numbers.comparable_name("شريفي‌نژاد") == numbers.comparable_name("شریفی  نژاد")
    assert numbers.comparable_name("كاوه") == numbers.comparable_name("کاوه")
    assert numbers.comparable_name("کاوه") != numbers.comparable_name("آوه")
