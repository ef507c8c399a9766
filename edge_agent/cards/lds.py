"""The logical data structure of the card (ICAO 9303-10): the groups that a visit reads, and whom they name.

Nothing here says that the data is authentic: that is `passive_auth`, and it comes first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

from edge_agent.cards import mrz, numbers, tlv
from edge_agent.cards.errors import CardDataError, CardExpiredError
from edge_agent.cards.mrz import Mrz

TAG_COM: Final = 0x60
TAG_SOD: Final = 0x77
GROUP_TAGS: Final = {1: 0x61, 11: 0x6B}
"""Data group number to the tag that wraps it (ICAO 9303-10 table 35), for the groups that we read."""

_TAG_LIST: Final = 0x5C
_MRZ: Final = 0x5F1F
_NAME: Final = 0x5F0E
_PERSONAL_NUMBER: Final = 0x5F10
_BIRTH_DATE: Final = 0x5F2B
_FATHER_NAME: Final = 0xDF30
"""ICAO has no data object for the father's name; NCP-R1 takes one of the private class."""

_MAX_NAME: Final = 128
_ZWNJ: Final = "\u200c"
_IRAN_TIME: Final = timezone(timedelta(hours=3, minutes=30))


@dataclass(frozen=True, slots=True, repr=False)
class PersonalDetails:
    """DG11: the holder in Persian. Without a repr: it is personal data."""

    surname: str
    given_names: str
    father_name: str
    national_number: str
    """Ten ASCII digits with a valid check digit."""
    birth_date: date


@dataclass(frozen=True, slots=True, repr=False)
class Holder:
    """Who the card says holds it, from DG1 and DG11 together. Without a repr: it is personal data."""

    surname: str
    given_names: str
    father_name: str
    national_number: str
    birth_date: date
    latin_surname: str
    latin_given_names: str
    sex: str
    """F, M, or < for unspecified."""
    document_number: str
    expiry: date


def common(data: bytes) -> list[int]:
    """The tags of the data groups that EF.COM lists. Not signed: the security object is what counts.

    Raises:
        CardDataError: not an EF.COM.
    """
    return tlv.tags(tlv.need(tlv.parse(tlv.only(data, TAG_COM)), _TAG_LIST))


def data_group_1(data: bytes) -> Mrz:
    """DG1.

    Raises:
        CardDataError: not a DG1 with a TD1 zone.
    """
    return mrz.parse_td1(tlv.only(tlv.only(data, GROUP_TAGS[1]), _MRZ))


def data_group_11(data: bytes) -> PersonalDetails:
    """DG11, with all that NCP-R1 requires in it.

    Raises:
        CardDataError: not a DG11, something missing, a text that is not a name, a number or date that cannot be.
    """
    objects = tlv.parse(tlv.only(data, GROUP_TAGS[11]))
    if tlv.tags(tlv.need(objects, _TAG_LIST)) != [item.tag for item in objects if item.tag != _TAG_LIST]:
        raise CardDataError("DG11 does not hold what its tag list says")
    surname, separator, given_names = _text(tlv.need(objects, _NAME)).partition("<<")
    if not separator:
        raise CardDataError("the name in DG11 is not in two parts")
    number = numbers.national_number(_text(tlv.need(objects, _PERSONAL_NUMBER)))
    if number is None:
        raise CardDataError("the national number in DG11 cannot be one")
    return PersonalDetails(
        surname=_name(surname),
        given_names=_name(given_names),
        father_name=_name(_text(tlv.need(objects, _FATHER_NAME))),
        national_number=number,
        birth_date=_full_date(tlv.need(objects, _BIRTH_DATE)),
    )


def holder(groups: Mapping[int, bytes]) -> Holder:
    """The holder, from data groups 1 and 11 as read.

    Raises:
        CardDataError: a group is missing or malformed, or the two contradict each other.
    """
    if not groups.keys() >= {1, 11}:
        raise CardDataError("a data group is missing")
    zone, details = data_group_1(groups[1]), data_group_11(groups[11])
    if f"{details.birth_date:%y%m%d}" != zone.birth_yymmdd:
        raise CardDataError("the two dates of birth differ")
    return Holder(
        surname=details.surname,
        given_names=details.given_names,
        father_name=details.father_name,
        national_number=details.national_number,
        birth_date=details.birth_date,
        latin_surname=zone.surname,
        latin_given_names=zone.given_names,
        sex=zone.sex,
        document_number=zone.document_number,
        expiry=zone.expiry,
    )


def check_expiry(expiry: date, at: int) -> None:
    """Whether a card that is valid to the end of `expiry`, Iran time, still is at `at` (Unix seconds).

    Raises:
        CardExpiredError: it is not.
    """
    end = datetime(expiry.year, expiry.month, expiry.day, tzinfo=_IRAN_TIME) + timedelta(days=1)
    if at >= int(end.astimezone(UTC).timestamp()):
        raise CardExpiredError("the date of expiry has passed")


def compose_data_group_1(zone: bytes) -> bytes:
    """DG1 around a TD1 zone."""
    return tlv.encode(GROUP_TAGS[1], tlv.encode(_MRZ, zone))


def compose_data_group_11(details: PersonalDetails) -> bytes:
    """DG11 for `details`; the inverse of `data_group_11`."""
    objects = (
        (_NAME, f"{details.surname}<<{details.given_names}".replace(" ", "<")),
        (_PERSONAL_NUMBER, details.national_number),
        (_BIRTH_DATE, f"{details.birth_date:%Y%m%d}"),
        (_FATHER_NAME, details.father_name),
    )
    tag_list = b"".join(tag.to_bytes(2) for tag, _ in objects)
    body = b"".join(tlv.encode(tag, text.encode()) for tag, text in objects)
    return tlv.encode(GROUP_TAGS[11], tlv.encode(_TAG_LIST, tag_list) + body)


def compose_common(groups: Mapping[int, bytes]) -> bytes:
    """EF.COM for `groups`, LDS version 1.8 and Unicode version 4.0 (ICAO 9303-10 clause 4.6.1)."""
    versions = tlv.encode(0x5F01, b"0108") + tlv.encode(0x5F36, b"040000")
    present = bytes(GROUP_TAGS[number] for number in sorted(groups))
    return tlv.encode(TAG_COM, versions + tlv.encode(_TAG_LIST, present))


def _text(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CardDataError("a text is not UTF-8") from exc
    if len(text) > _MAX_NAME:
        raise CardDataError("a text is too long")
    return text


def _name(text: str) -> str:
    """A name fit for a screen: no control characters and no marks that turn the direction of what surrounds it."""
    name = " ".join(text.replace("<", " ").split())
    if not name or any(unicodedata.category(symbol).startswith("C") and symbol != _ZWNJ for symbol in name):
        raise CardDataError("a name is empty or holds characters that no name has")
    return name


def _full_date(value: bytes) -> date:
    """A date as eight digits, or as four bytes of two digits each (ICAO 9303-10 table 59, both are met)."""
    digits = value.hex() if len(value) == 4 else value.decode("ascii", errors="replace")
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        raise CardDataError("a date is not a date")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError as exc:
        raise CardDataError("a date is not a date") from exc
