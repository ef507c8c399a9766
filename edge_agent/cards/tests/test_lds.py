from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import lds, tlv
from edge_agent.cards.errors import CardDataError, CardExpiredError
from tools.simulators import issuer


def details(**changes: object) -> lds.PersonalDetails:
    whole = {
        "surname": "شریفی‌نژاد",
        "given_names": "پروین زهرا",
        "father_name": "رضا",
        "national_number": "0012345679",
        "birth_date": date(1986, 1, 18),
    }
    return lds.PersonalDetails(**whole | changes)  # type: ignore[arg-type]  # one value is changed per test


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("seed", [0, 1, 7, 4711, issuer.MAX_SEED])
def test_the_holder_is_who_the_plastic_says(seed: int) -> None:
    image = issuer.personalise(seed)
    holder = lds.holder(image.groups)
    for name, printed in image.printed.items():
        assert str(getattr(holder, name)) == printed


def test_data_group_11_comes_back_as_it_went_in() -> None:
    assert lds.data_group_11(lds.compose_data_group_11(details())) == details()


@pytest.mark.parametrize(
    "changes",
    [
        {"national_number": "0012345678"},
        {"surname": ""},
        {"surname": "نام\u202eمان"},
        {"given_names": "x" * 200},
        {"father_name": "\x07"},
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CardDataError):
        lds.data_group_11(lds.compose_data_group_11(details(**changes)))


def test_a_tag_list_that_lies_is_refused() -> None:
    objects = tlv.parse(tlv.only(lds.compose_data_group_11(details()), 0x6B))
    shorter = b"".join(tlv.encode(item.tag, item.value) for item in objects[:-1])
    with pytest.raises(CardDataError):
        lds.data_group_11(tlv.encode(0x6B, shorter))


def test_a_birth_date_may_be_four_bytes_of_two_digits() -> None:
    whole = lds.compose_data_group_11(details())
    packed = tlv.encode(0x6B, tlv.only(whole, 0x6B).replace(b"\x5f\x2b\x0819860118", b"\x5f\x2b\x04\x19\x86\x01\x18"))
    assert lds.data_group_11(packed) == details()


def test_groups_of_two_people_do_not_make_a_holder() -> None:
    one, other = issuer.personalise(1), issuer.personalise(2)
    with pytest.raises(CardDataError):
        lds.holder({1: one.groups[1], 11: other.groups[11]})
    with pytest.raises(CardDataError):
        lds.holder({1: one.groups[1]})


def test_a_card_is_valid_to_the_end_of_its_last_day_in_iran() -> None:
    midnight = int(datetime(2032, 3, 20, 20, 30, tzinfo=UTC).timestamp())
    lds.check_expiry(date(2032, 3, 20), midnight - 1)
    with pytest.raises(CardExpiredError):
        lds.check_expiry(date(2032, 3, 20), midnight)
    with pytest.raises(CardExpiredError):
        lds.check_expiry(date(2032, 3, 20), midnight * 1000)


def test_ef_com_lists_the_groups() -> None:
    assert lds.common(lds.compose_common({1: b"", 11: b""})) == [0x61, 0x6B]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_group_or_are_refused(data: bytes) -> None:
    for tag, parse in ((0x60, lds.common), (0x61, lds.data_group_1), (0x6B, lds.data_group_11)):
        for attempt in (data, tlv.encode(tag, data)):
            try:
                parse(attempt)
            except CardDataError:
                continue


@given(st.integers(0, 80), st.integers(0, 255))
def test_a_changed_byte_in_data_group_11_never_escapes_as_another_error(place: int, value: int) -> None:
    data = bytearray(issuer.personalise(1).groups[11])
    data[place] = value
    try:
        lds.data_group_11(bytes(data))
    except CardDataError:
        return


def test_personal_data_does_not_show_in_a_repr() -> None:
    image = issuer.personalise(1)
    shown = repr([lds.holder(image.groups), lds.data_group_11(image.groups[11]), image])
    assert not any(value in shown for value in image.printed.values() if value != image.printed["expiry"])
