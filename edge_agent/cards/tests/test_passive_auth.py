from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.cards import passive_auth, security_object, tlv
from edge_agent.cards.errors import CardDataError, CardNotAuthenticError
from edge_agent.cards.passive_auth import Check
from edge_agent.cards.tests import forge
from edge_agent.cards.tests.forge import SodPlan
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


def test_security_objects_of_all_three_hashes_pass() -> None:
    for name, oid in (("sha384", "0609608648016503040202"), ("sha512", "0609608648016503040203")):
        content = forge.lds_object(forge.hashed(forge.GROUPS, name), bytes.fromhex(oid))
        sod = SodPlan(content=content, digest=name, signature_hash=name).made()
        result = passive_auth.authenticate(sod, forge.GROUPS, forge.trust(), AT)
        assert result.hash_algorithm == name


FIRST, ELEVENTH = forge.hashed(forge.GROUPS)


@pytest.mark.parametrize(
    "plan",
    [
        SodPlan(named=replace(forge.GOOD, issuer="another root")),
        SodPlan(by_key_identifier=True),
        SodPlan(content_type="1.2.840.113549.1.7.1"),
        SodPlan(attribute_type="1.2.840.113549.1.7.1"),
        SodPlan(digests_named=2),
        SodPlan(digests_named=0),
        SodPlan(content=forge.lds_object([FIRST, ELEVENTH, FIRST])),
        SodPlan(content=forge.lds_object([FIRST, (17, ELEVENTH[1])])),
        SodPlan(content=forge.lds_object([FIRST, (0, ELEVENTH[1])])),
        SodPlan(content=forge.lds_object([FIRST, (11, ELEVENTH[1][:31])])),
        SodPlan(content=forge.lds_object([FIRST], bytes.fromhex("06052b0e03021a"))),
        SodPlan(content=b""),
        SodPlan(content=b"\x30\x00"),
    ],
    ids=lambda plan: f"{plan.named.issuer} {plan.content_type} {plan.attribute_type} {plan.digests_named}",
)
def test_a_signed_object_of_another_form_is_card_data_trouble(plan: SodPlan) -> None:
    with pytest.raises(CardDataError):
        passive_auth.authenticate(plan.made(), forge.GROUPS, forge.trust(), AT)


@pytest.mark.parametrize(
    ("plan", "check"),
    [
        (SodPlan(digest="sha512"), Check.ALGORITHMS),
        (SodPlan(signer=replace(forge.GOOD, signs_data=False)), Check.SIGNER_KEY_USAGE),
        (SodPlan(signer=replace(forge.GOOD, critical_extra=True)), Check.SIGNER_KEY_USAGE),
        (SodPlan(signer=replace(forge.GOOD, years=(2025, 2026))), Check.SIGNER_IN_FORCE),
        (SodPlan(signer=replace(forge.GOOD, algorithm=hashes.SHA224())), Check.ALGORITHMS),
        (SodPlan(signer=replace(forge.GOOD, key=ec.derive_private_key(9, ec.SECP192R1()))), Check.ALGORITHMS),
    ],
    ids=lambda value: str(value) if isinstance(value, Check) else "",
)
def test_a_signer_or_algorithm_that_does_not_count_fails_its_check(plan: SodPlan, check: Check) -> None:
    assert failed_check(plan.made(), forge.GROUPS, trust=forge.trust()) == check


def test_what_is_too_deep_is_refused_before_the_asn1_parser_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_object, "_parse_cms", lambda _data: pytest.fail("the parser was reached"))
    nested = b""
    for _ in range(security_object.MAX_DEPTH + 1):
        nested = tlv.encode(0x30, nested)
    crowded = tlv.encode(0x30, tlv.encode(0x30, b"\x05\x00" * 1200) * 2)
    for content in (nested, crowded):
        with pytest.raises(CardDataError):
            security_object.parse(tlv.encode(0x77, content))


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


def test_a_security_object_beyond_the_limit_is_refused() -> None:
    with pytest.raises(CardDataError, match="too long"):
        security_object.parse(tlv.encode(0x77, bytes(70_000)))
