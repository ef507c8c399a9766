from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.cards import passive_auth, security_object
from edge_agent.cards.errors import CardDataError, CardNotAuthenticError
from edge_agent.cards.passive_auth import Check
from edge_agent.cards.tests.in_hand import AT
from edge_agent.cards.trust import TrustList
from tools.simulators import issuer
from tools.simulators.issuer import Defect

TRUST = TrustList.from_pem(issuer.trust_list_pem())
IMAGE = issuer.personalise(1)
HASHES = {number: hashlib.sha256(data).digest() for number, data in IMAGE.groups.items()}


def failed_check(sod: bytes, groups: dict[int, bytes], at: int = AT, trust: TrustList = TRUST) -> str:
    with pytest.raises(CardNotAuthenticError) as caught:
        passive_auth.authenticate(sod, groups, trust, at)
    return caught.value.check


def test_a_whole_card_passes_every_check() -> None:
    result = passive_auth.authenticate(IMAGE.security_object, IMAGE.groups, TRUST, AT)
    assert result.checks == tuple(Check)
    assert (result.hash_algorithm, dict(result.group_hashes)) == ("sha256", HASHES)


def test_hashes_do_as_well_as_groups() -> None:
    assert passive_auth.authenticate_hashes(IMAGE.security_object, HASHES, TRUST, AT) == passive_auth.authenticate(
        IMAGE.security_object, IMAGE.groups, TRUST, AT
    )


def test_each_defect_fails_the_check_that_is_for_it() -> None:
    tampered = issuer.personalise(1, Defect.TAMPERED_DG1)
    assert failed_check(tampered.security_object, tampered.groups) == Check.GROUP_HASH
    foreign = issuer.personalise(1, Defect.FOREIGN_ISSUER)
    assert failed_check(foreign.security_object, foreign.groups) == Check.SIGNER_KNOWN
    assert failed_check(IMAGE.security_object, issuer.personalise(2).groups) == Check.GROUP_HASH
    assert failed_check(IMAGE.security_object, IMAGE.groups | {2: b"face"}) == Check.GROUP_LISTED
    assert failed_check(IMAGE.security_object, {11: IMAGE.groups[11]}) == Check.GROUP_PRESENT
    assert failed_check(IMAGE.security_object, {}) == Check.GROUP_PRESENT


@pytest.mark.parametrize("at", [0, 1_700_000_000, 2_200_000_000, AT * 1000])
def test_a_signer_out_of_force_is_refused(at: int) -> None:
    assert failed_check(IMAGE.security_object, IMAGE.groups, at) == Check.SIGNER_IN_FORCE


def test_an_authority_for_card_keys_does_not_vouch_for_data() -> None:
    swapped = TrustList(TRUST.card_key_authorities, TRUST.country_signers)
    assert failed_check(IMAGE.security_object, IMAGE.groups, trust=swapped) == Check.SIGNER_KNOWN


def forged(sod: bytes, groups: dict[int, bytes]) -> bytes:
    """`sod` with every hash made to fit `groups`, as far as one can without the document signer's key."""
    parsed = security_object.parse(sod)
    content = parsed.content
    for number, data in groups.items():
        content = content.replace(parsed.group_hashes[number], hashlib.sha256(data).digest())
    return sod.replace(parsed.content, content).replace(parsed.message_digest, hashlib.sha256(content).digest())


def test_hashes_made_to_fit_other_data_do_not_pass() -> None:
    other = issuer.personalise(2).groups
    assert failed_check(forged(IMAGE.security_object, other), other) == Check.SIGNATURE
    parsed = security_object.parse(IMAGE.security_object)
    halfway = IMAGE.security_object.replace(parsed.group_hashes[1], hashlib.sha256(other[1]).digest())
    assert failed_check(halfway, IMAGE.groups | {1: other[1]}) == Check.SIGNED_ATTRIBUTES
    spoilt = IMAGE.security_object[:-1] + bytes((IMAGE.security_object[-1] ^ 1,))
    assert failed_check(spoilt, IMAGE.groups) == Check.SIGNATURE


@pytest.mark.filterwarnings("ignore::UserWarning")  # cryptography frowns at some certificates before it refuses them
@settings(max_examples=400)
@given(st.integers(0, len(IMAGE.security_object) - 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_a_mutated_security_object_is_refused_or_says_the_same(place: int, piece: bytes, cut: bool) -> None:
    sod = IMAGE.security_object
    mutated = sod[:place] + piece + sod[place + (len(piece) if not cut else 0) :]
    try:
        result = passive_auth.authenticate(mutated, IMAGE.groups, TRUST, AT)
    except (CardDataError, CardNotAuthenticError):
        return
    assert dict(result.group_hashes) == HASHES


@given(st.binary(max_size=300))
def test_any_bytes_are_a_security_object_or_are_refused(data: bytes) -> None:
    with pytest.raises(CardDataError):
        security_object.parse(data)


def test_a_huge_or_deep_security_object_never_reaches_the_asn1_parser() -> None:
    deep = b""
    for _ in range(200):
        deep = (b"\x30" + bytes((len(deep),)) + deep) if len(deep) < 128 else b"\x30\x82" + len(deep).to_bytes(2) + deep
    for data in (b"\x77\x82" + len(deep).to_bytes(2) + deep, b"\x77\x83" + (70_000).to_bytes(3) + bytes(70_000)):
        with pytest.raises(CardDataError):
            security_object.parse(data)
