from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from wire import assertion, cbor, cose, fields
from wire.assertion import Outcome
from wire.loa import Evidence
from wire.tests.examples import AUDIENCE, CODE, ISSUED_AT, OTHER_KEY, REGISTRY_KEY, claims

KEYS = {cose.key_id(REGISTRY_KEY.public_key()): REGISTRY_KEY.public_key()}
TOKEN = assertion.sign(claims(), REGISTRY_KEY)
END = ISSUED_AT + assertion.USE_WITHIN_S


def judged(token: bytes, *, audience: str | None = AUDIENCE, at: int = ISSUED_AT) -> Outcome:
    return assertion.verify(token, KEYS, audience=audience, at=at).outcome


def signed(
    value: object, *, message_type: str = assertion.TYPE, key: ec.EllipticCurvePrivateKey = REGISTRY_KEY
) -> bytes:
    return cose.sign(cbor.encode(value), key, message_type)


def changed(**changes: Any) -> bytes:
    """A token with a right signature over claims that `assertion.sign` may refuse to make."""
    return signed(fields.to_map(claims(**changes)))


@pytest.mark.requirement("A10")
def test_a_fresh_token_is_genuine_for_its_audience_now() -> None:
    verdict = assertion.verify(TOKEN, KEYS, audience=AUDIENCE, at=ISSUED_AT)
    assert verdict.outcome is Outcome.GENUINE_NOW
    assert verdict.claims == claims()


@pytest.mark.requirement("A12")
@pytest.mark.parametrize(
    "audience", [None, "", "10380284790/0418", "10380284790", AUDIENCE + " ", AUDIENCE.upper() + "x"]
)
def test_a_token_shown_to_anyone_else_is_for_another_audience(audience: str | None) -> None:
    assert judged(TOKEN, audience=audience) is Outcome.OTHER_AUDIENCE


@pytest.mark.parametrize(
    ("at", "outcome"),
    [
        (0, Outcome.CANNOT_CHECK),
        (ISSUED_AT - 31, Outcome.CANNOT_CHECK),
        (ISSUED_AT - 30, Outcome.GENUINE_NOW),
        (ISSUED_AT, Outcome.GENUINE_NOW),
        (END + 30, Outcome.GENUINE_NOW),
        (END + 31, Outcome.GENUINE_PAST),
        (ISSUED_AT + 20 * 365 * 86400, Outcome.GENUINE_PAST),
    ],
)
def test_time_decides_between_now_past_and_not_yet(at: int, outcome: Outcome) -> None:
    assert judged(TOKEN, at=at) is outcome


def test_the_table_of_outcomes_for_what_is_no_valid_token() -> None:
    unknown = cose.sign(fields.encode(claims()), OTHER_KEY, assertion.TYPE)
    forged = cose.parse(TOKEN)
    foreign = b"\xd2" + cbor.encode([forged.protected, {}, forged.payload, cose.parse(unknown).signature])
    table = [
        (b"", Outcome.CANNOT_CHECK),
        (b"\x00", Outcome.ALTERED),
        (TOKEN[:-1], Outcome.ALTERED),
        (TOKEN + b"\x00", Outcome.ALTERED),
        (bytes(assertion.MAX_BYTES + 1), Outcome.ALTERED),
        (foreign, Outcome.ALTERED),
        (unknown, Outcome.UNKNOWN_ISSUER),
        (signed(fields.to_map(claims()), message_type="govah-answer;v=1"), Outcome.ALTERED),
        (signed(fields.to_map(claims()), message_type="govah-assertion;v=0"), Outcome.UNSUPPORTED_VERSION),
        (signed(fields.to_map(claims()), message_type="govah-assertion;v=2"), Outcome.UNSUPPORTED_VERSION),
        (signed({}), Outcome.CANNOT_CHECK),
        (signed([1, 2]), Outcome.CANNOT_CHECK),
        (cose.sign(b"", REGISTRY_KEY, assertion.TYPE), Outcome.CANNOT_CHECK),
        (cose.sign(b"\xff", REGISTRY_KEY, assertion.TYPE), Outcome.CANNOT_CHECK),
    ]
    assert [judged(token) for token, _ in table] == [outcome for _, outcome in table]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"evb": int(Evidence.PASSIVE_AUTH)}, id="its evidence reaches level 1 only"),
        pytest.param({"evb": 0, "loa": 1}, id="no evidence at all"),
        pytest.param({"loa": 3}, id="a level the policy never gives"),
        pytest.param({"loa": 5}, id="no such level"),
        pytest.param({"loa": 0}, id="level nothing"),
        pytest.param({"evb": 1 << 16 | 0x91}, id="an evidence bit that nobody defined"),
        pytest.param({"pol": "loa-policy/9"}, id="a policy nobody knows"),
        pytest.param({"trk": CODE.lower()}, id="a tracking code in another form"),
        pytest.param({"trk": "2222-2222-2222-2222"}, id="a tracking code that does not fit its check symbol"),
        pytest.param({"exp": END + 1}, id="longer use than one transaction has"),
        pytest.param({"exp": ISSUED_AT - 1}, id="over before it began"),
        pytest.param({"nbf": ISSUED_AT + 1}, id="issued before it is valid"),
        pytest.param({"use": 2}, id="for two transactions"),
        pytest.param({"nonce": bytes(31)}, id="a short nonce"),
        pytest.param({"cti": bytes(17)}, id="a long id"),
        pytest.param({"txh": "A" * 43}, id="text where a hash belongs"),
        pytest.param({"aud": AUDIENCE + "\n"}, id="a line break in the audience"),
        pytest.param({"iat": True}, id="true for a time"),
        pytest.param({"sub": None}, id="without the pseudonym"),
    ],
)
@pytest.mark.requirement("A10")
def test_a_signed_token_that_contradicts_itself_is_not_called_genuine(changes: dict[str, Any]) -> None:
    assert judged(changed(**changes)) is Outcome.CANNOT_CHECK


@pytest.mark.requirement("B6")
def test_no_changed_bit_leaves_a_token_genuine() -> None:
    for bit in range(len(TOKEN) * 8):
        other = bytearray(TOKEN)
        other[bit // 8] ^= 1 << bit % 8
        assert judged(bytes(other)) in (Outcome.ALTERED, Outcome.UNKNOWN_ISSUER)


def test_without_a_key_to_check_with_nothing_is_said_of_the_token() -> None:
    assert assertion.verify(TOKEN, {}, audience=AUDIENCE, at=ISSUED_AT).outcome is Outcome.CANNOT_CHECK


def test_a_key_listed_under_the_id_of_another_does_not_make_a_token_genuine() -> None:
    swapped = {cose.key_id(REGISTRY_KEY.public_key()): OTHER_KEY.public_key()}
    assert assertion.verify(TOKEN, swapped, audience=AUDIENCE, at=ISSUED_AT).outcome is Outcome.ALTERED


def test_claims_are_shown_only_where_the_signature_holds() -> None:
    for token in (b"", TOKEN[:-1], signed({}), signed(fields.to_map(claims()), key=OTHER_KEY)):
        assert assertion.verify(token, KEYS, audience=AUDIENCE, at=ISSUED_AT).claims is None


def test_an_unknown_claim_of_a_newer_registry_is_tolerated() -> None:
    assert judged(signed({**fields.to_map(claims()), -70011: [b"later"]})) is Outcome.GENUINE_NOW


@given(st.binary(max_size=300), st.none() | st.text(max_size=20), st.integers())
def test_no_token_text_or_time_makes_the_verifier_raise(token: bytes, audience: str | None, at: int) -> None:
    for candidate in (token, b"\xd2" + token, cose.sign(token, REGISTRY_KEY, assertion.TYPE)):
        outcome = assertion.verify(candidate, KEYS, audience=audience, at=at).outcome
        assert not outcome.startswith("genuine")


@pytest.mark.parametrize("changes", [{"loa": 5}, {"nonce": b""}, {"iss": ""}, {"exp": -1}, {"iss": "a\x1b[31m"}])
def test_the_registry_cannot_sign_claims_out_of_bounds(changes: dict[str, Any]) -> None:
    with pytest.raises(fields.MessageRefusedError):
        assertion.sign(claims(**changes), REGISTRY_KEY)


def test_the_token_is_small_enough_for_its_code_on_paper() -> None:
    assert len(TOKEN) < 700


def test_outcome_ids_never_change() -> None:
    assert [outcome.value for outcome in Outcome] == [
        *("genuine_now", "genuine_past", "genuine_other_audience", "unknown_issuer"),
        *("altered", "unsupported_version", "cannot_check"),
    ]
