"""The machine-readable zone of a card of size TD1 (ICAO 9303-5): three lines of thirty characters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from edge_agent.cards.errors import CardDataError

LINE: Final = 30
SIZE: Final = 3 * LINE
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WEIGHTS: Final = (7, 3, 1)


@dataclass(frozen=True, slots=True, repr=False)
class Mrz:
    """What the zone says, check digits already verified. Without a repr: it is personal data."""

    document_code: str
    issuing_state: str
    document_number: str
    birth_yymmdd: str
    sex: str
    """F, M, or < for unspecified."""
    expiry: date
    """Last day of validity. Two-digit years are of this century: no card of this kind is older."""
    nationality: str
    surname: str
    given_names: str


def check_digit(text: str) -> str:
    """The check digit over `text` (ICAO 9303-3 clause 4.9): weights 7, 3, 1; letters from 10; filler 0.

    Raises:
        CardDataError: a character that no zone has.
    """
    total = 0
    for place, symbol in enumerate(text):
        value = 0 if symbol == "<" else _ALPHABET.find(symbol)
        if value < 0:
            raise CardDataError("a character is not of the machine-readable zone")
        total += value * _WEIGHTS[place % 3]
    return str(total % 10)


def parse_td1(zone: bytes) -> Mrz:
    """Read the ninety characters of DG1.

    Raises:
        CardDataError: another length, a foreign character, a check digit that does not fit, or an impossible date.
    """
    if len(zone) != SIZE or not zone.isascii():
        raise CardDataError("the machine-readable zone has another size or alphabet")
    text = zone.decode("ascii")
    check_digit(text)
    one, two, three = text[:LINE], text[LINE : 2 * LINE], text[2 * LINE :]
    _require(one[5:14], one[14])
    _require(two[0:6], two[6])
    _require(two[8:14], two[14])
    _require(one[5:] + two[0:7] + two[8:15] + two[18:29], two[29])
    if two[7] not in "FM<":
        raise CardDataError("the machine-readable zone has an unknown sex")
    surname, _, given = three.partition("<<")
    return Mrz(
        document_code=one[0:2].rstrip("<"),
        issuing_state=one[2:5].rstrip("<"),
        document_number=one[5:14].rstrip("<"),
        birth_yymmdd=two[0:6],
        sex=two[7],
        expiry=_expiry(two[8:14]),
        nationality=two[15:18].rstrip("<"),
        surname=_spaced(surname),
        given_names=_spaced(given),
    )


def compose_td1(
    *, state: str, document_number: str, birth: date, sex: str, expiry: date, surname: str, given_names: str
) -> bytes:
    """The ninety characters for these values; names are Latin capitals and are cut to the line.

    Raises:
        CardDataError: a character that no zone has.
    """
    number, born, until = document_number.ljust(9, "<"), f"{birth:%y%m%d}", f"{expiry:%y%m%d}"
    one = f"ID{state}{number}{check_digit(number)}".ljust(LINE, "<")
    two = f"{born}{check_digit(born)}{sex}{until}{check_digit(until)}{state}".ljust(LINE - 1, "<")
    two += check_digit(one[5:] + two[0:7] + two[8:15] + two[18:29])
    three = f"{surname}<<{given_names}".replace(" ", "<")[:LINE].ljust(LINE, "<")
    check_digit(three)
    return (one + two + three).encode("ascii")


def _require(field: str, digit: str) -> None:
    if check_digit(field) != digit:
        raise CardDataError("a check digit of the machine-readable zone does not fit")


def _expiry(yymmdd: str) -> date:
    if not yymmdd.isdigit():
        raise CardDataError("the date of expiry is not a date")
    try:
        return date(2000 + int(yymmdd[0:2]), int(yymmdd[2:4]), int(yymmdd[4:6]))
    except ValueError as exc:
        raise CardDataError("the date of expiry is not a date") from exc


def _spaced(names: str) -> str:
    return " ".join(names.replace("<", " ").split())
