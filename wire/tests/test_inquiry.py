from __future__ import annotations

import hashlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import assertion, cbor, cose, fields, inquiry
from wire.failures import Failure
from wire.tests.examples import REGISTRY_KEY

ACT: dict[str, Any] = {
    "service": "10031094100",
    "audience": "10380284790/0417",
    "act_reference": "سند ۱۲",
    "salt": bytes(16),
    "at_ms": 1_800_000_000_000,
}
CHALLENGE: dict[str, Any] = {
    "nonce": b"\x01" * 32,
    "terminal": b"\x02" * 32,
    "audience": "10380284790/0417",
    "txh": b"\x03" * 32,
    "policy": "loa-policy/spine-0",
}


@pytest.mark.requirement("A12")
def test_the_transaction_hash_is_the_labelled_array_that_anyone_can_recompute() -> None:
    array = ["NCP-TX/1", "10031094100", "10380284790/0417", "سند ۱۲", bytes(16), 1_800_000_000_000]
    assert inquiry.transaction_hash(**ACT) == hashlib.sha256(cbor2.dumps(array)).digest()


@pytest.mark.requirement("A12")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service", "10031094101"),
        ("audience", "10380284790/0418"),
        ("act_reference", "سند ۱۳"),
        ("salt", b"\x01" + bytes(15)),
        ("at_ms", 1_800_000_000_001),
    ],
)
def test_another_act_has_another_hash(name: str, value: object) -> None:
    assert inquiry.transaction_hash(**(ACT | {name: value})) != inquiry.transaction_hash(**ACT)


@given(st.text(), st.text(), st.text(), st.text())
def test_moving_letters_between_fields_changes_the_hash(a: str, b: str, c: str, d: str) -> None:
    same = (a, b) == (c, d)
    one = inquiry.transaction_hash(**(ACT | {"service": a, "audience": b}))
    other = inquiry.transaction_hash(**(ACT | {"service": c, "audience": d}))
    assert (one == other) is same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonce", bytes(32)),
        ("terminal", bytes(32)),
        ("audience", "1"),
        ("txh", bytes(32)),
        ("policy", "loa-policy/1"),
    ],
)
def test_what_the_card_signs_is_bound_to_every_part_of_the_challenge(name: str, value: object) -> None:
    challenge = inquiry.card_challenge(**CHALLENGE)
    assert len(challenge) == 32
    assert inquiry.card_challenge(**(CHALLENGE | {name: value})) != challenge


def test_the_verdict_begins_with_its_own_label() -> None:
    signed = inquiry.verdict_digest_input(b"c" * 32, b"status")
    assert signed == b"NCP-R1/verdict/1\x00" + b"c" * 32 + b"status"


def test_a_challenge_of_another_length_would_let_bytes_slide_into_the_status() -> None:
    with pytest.raises(ValueError, match="32"):
        inquiry.verdict_digest_input(b"c" * 31, b"cstatus")


def test_no_signed_thing_passes_for_another() -> None:
    types = [inquiry.TRACE_TYPE, inquiry.REQUEST_TYPE, inquiry.ANSWER_TYPE, inquiry.TIME_TYPE, assertion.TYPE]
    assert len(set(types)) == len(types)
    for made in types:
        data = cose.sign(b"", REGISTRY_KEY, made)
        assert [wanted for wanted in types if _opens(data, wanted)] == [made]


def _opens(data: bytes, wanted: str) -> bool:
    try:
        cose.open_signed(data, REGISTRY_KEY.public_key(), wanted)
    except cbor.CborRefusedError:
        return False
    return True


@pytest.mark.requirement("D3")
def test_what_the_exchange_reads_holds_no_field_of_the_answer_or_the_person() -> None:
    assert set(fields.to_map(_header())) == set(inquiry.TraceHeader.KEYS)
    assert not {"failure", "token", "tracking_code", "card_status", "loa"} & set(inquiry.TraceHeader.KEYS.values())


def _header() -> inquiry.TraceHeader:
    return inquiry.TraceHeader(bytes(16), "a", "b", "nocr.card_assertion", "basis", "notary", 0, 1, bytes(32))


@pytest.mark.requirement("B5")
def test_an_answer_without_a_tracking_code_is_no_answer() -> None:
    answer = fields.to_map(inquiry.Answer(bytes(16), "code", Failure.REGISTRY_REFUSED, 0))
    del answer[2]
    with pytest.raises(fields.MessageRefusedError, match="tracking_code"):
        fields.from_map(answer, inquiry.Answer)
