from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import mrz
from edge_agent.cards.errors import CardDataError

ICAO_SPECIMEN = b"I<UTOD231458907<<<<<<<<<<<<<<<7408122F1204159UTO<<<<<<<<<<<6ERIKSSON<<ANNA<MARIA<<<<<<<<<<"
"""ICAO 9303-5 appendix B."""


def test_the_specimen_of_the_standard_is_read() -> None:
    read = mrz.parse_td1(ICAO_SPECIMEN)
    assert (read.document_code, read.issuing_state, read.document_number) == ("I", "UTO", "D23145890")
    assert (read.birth_yymmdd, read.sex, read.expiry) == ("740812", "F", date(2012, 4, 15))
    assert (read.surname, read.given_names, read.nationality) == ("ERIKSSON", "ANNA MARIA", "UTO")


def test_check_digits_of_the_standard() -> None:
    assert mrz.check_digit("520727") == "3"
    assert mrz.check_digit("AB2134<<<") == "5"


@pytest.mark.parametrize("place", [0, 5, 13, 14, 30, 36, 38, 43, 44, 59])
def test_one_changed_character_is_noticed_wherever_a_check_digit_looks(place: int) -> None:
    if place == 0:
        with pytest.raises(CardDataError):
            mrz.parse_td1(ICAO_SPECIMEN[:-1])
        return
    changed = bytearray(ICAO_SPECIMEN)
    changed[place] = ord("5") if changed[place] != ord("5") else ord("6")
    with pytest.raises(CardDataError):
        mrz.parse_td1(bytes(changed))


@pytest.mark.parametrize(("field", "place", "digit"), [(5, 6, 14), (30, 30, 36), (38, 38, 44)])
def test_a_field_is_held_against_its_own_check_digit_and_not_only_the_last(field: int, place: int, digit: int) -> None:
    found = 0
    for first in range(10):
        for second in range(10):
            zone = bytearray(ICAO_SPECIMEN)
            zone[place], zone[digit] = ord(str(first)), ord(str(second))
            text = zone.decode()
            fits_last = mrz.check_digit(text[5:37] + text[38:45] + text[48:59]) == text[59]
            fits_own = mrz.check_digit(text[field:digit]) == text[digit]
            if fits_last and not fits_own:
                found += 1
                with pytest.raises(CardDataError):
                    mrz.parse_td1(bytes(zone))
    assert found


@given(st.binary(max_size=100) | st.text("ABC019<", min_size=90, max_size=90).map(str.encode))
def test_any_bytes_are_a_zone_or_are_refused(zone: bytes) -> None:
    try:
        mrz.parse_td1(zone)
    except CardDataError:
        return


@given(
    number=st.text("ABCDEFGHIJ0123456789", min_size=1, max_size=9),
    birth=st.dates(date(1930, 1, 1), date(2020, 1, 1)),
    expiry=st.dates(date(2001, 1, 1), date(2099, 12, 31)),
    surname=st.text("ABCXYZ", min_size=1, max_size=10),
    given_names=st.text("ABCXYZ", min_size=1, max_size=10),
)
def test_what_is_composed_is_read(number: str, birth: date, expiry: date, surname: str, given_names: str) -> None:
    read = mrz.parse_td1(
        mrz.compose_td1(
            state="IRN",
            document_number=number,
            birth=birth,
            sex="M",
            expiry=expiry,
            surname=surname,
            given_names=given_names,
        )
    )
    assert (read.document_number, read.expiry, read.birth_yymmdd) == (number, expiry, f"{birth:%y%m%d}")
    assert (read.surname, read.given_names) == (surname, given_names)


def test_personal_data_does_not_show_in_a_repr() -> None:
    assert "ERIKSSON" not in repr(mrz.parse_td1(ICAO_SPECIMEN))
