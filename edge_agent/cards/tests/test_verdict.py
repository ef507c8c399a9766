from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import lds, verdict
from edge_agent.cards.errors import CardDataError, CardNotGenuineError
from edge_agent.cards.tests import forge
from edge_agent.cards.tests.in_hand import AT, CHALLENGE, contact, opened, powered
from edge_agent.cards.trust import TrustList
from edge_agent.cards.verdict import CardVerdict, Interface, JournalState, Reference, Session, Status
from tools.simulators import issuer
from tools.simulators.issuer import CardImage, Defect
from wire.inquiry import verdict_digest_input

TRUST = TrustList.from_pem(issuer.trust_list_pem())
IMAGE = issuer.personalise(1)

STATUSES = st.builds(
    Status,
    interface=st.sampled_from(Interface),
    session=st.integers(0, 31).map(Session),
    reference=st.integers(0, 15).map(Reference),
    pin1_tries=st.none() | st.integers(0, 15),
    pin2_tries=st.none() | st.integers(0, 15),
    puk_tries=st.none() | st.integers(0, 15),
    finger_96_tries=st.none() | st.integers(0, 15),
    finger_97_tries=st.none() | st.integers(0, 15),
    verdict_counter=st.integers(0, 2**32 - 1),
    journal_state=st.sampled_from(JournalState),
    journal_containers=st.integers(0, 255),
    journal_counter=st.integers(0, 2**32 - 1),
    journal_transaction=st.binary(min_size=16, max_size=16),
)


async def verdict_of(image: CardImage, challenge: bytes = CHALLENGE) -> CardVerdict:
    return await (await opened(contact(powered(image)))).verdict(challenge)


def check(found: CardVerdict, image: CardImage = IMAGE, challenge: bytes = CHALLENGE, at: int = AT) -> Status:
    number = lds.holder(image.groups).document_number
    return verdict.check(found, challenge, image.card_certificate, TRUST, at, expected_document=number)


async def test_a_genuine_chip_proves_itself_and_tells_its_state() -> None:
    status = check(await verdict_of(IMAGE))
    assert (status.interface, status.session, status.pin1_tries) == (Interface.CONTACT, Session(0), 3)
    assert (status.verdict_counter, status.journal_state) == (1, JournalState.IDLE)
    assert status.pin2_tries is None


async def test_a_copy_without_the_key_is_not_genuine() -> None:
    clone = issuer.personalise(1, Defect.CLONED_CHIP)
    with pytest.raises(CardNotGenuineError, match="signature"):
        check(await verdict_of(clone), clone)


async def test_the_chip_of_another_genuine_card_is_not_genuine_here() -> None:
    mixed = issuer.personalise(1, Defect.MIXED_CHIP)
    with pytest.raises(CardNotGenuineError, match="another document"):
        check(await verdict_of(mixed), mixed)


async def test_a_chip_of_an_authority_that_nobody_trusts_is_not_genuine() -> None:
    foreign = issuer.personalise(1, Defect.FOREIGN_ISSUER)
    with pytest.raises(CardNotGenuineError, match="unknown_issuer"):
        check(await verdict_of(foreign), foreign)


async def test_a_country_signer_does_not_vouch_for_card_keys() -> None:
    swapped = TrustList(TRUST.card_key_authorities, TRUST.country_signers)
    with pytest.raises(CardNotGenuineError, match="unknown_issuer"):
        verdict.check(
            await verdict_of(IMAGE), CHALLENGE, IMAGE.card_certificate, swapped, AT, expected_document="S00000001"
        )


@pytest.mark.parametrize("at", [0, 1_700_000_000, 2_200_000_000, AT * 1000])
async def test_a_certificate_out_of_force_proves_nothing(at: int) -> None:
    with pytest.raises(CardNotGenuineError, match="not_in_force"):
        check(await verdict_of(IMAGE), at=at)


async def test_a_verdict_is_for_one_challenge() -> None:
    found = await verdict_of(IMAGE)
    with pytest.raises(CardNotGenuineError, match="signature"):
        check(found, challenge=bytes(32))


async def test_nobody_but_the_card_fills_the_status() -> None:
    found = await verdict_of(IMAGE)
    for place in range(verdict.STATUS_BYTES):
        status = bytearray(found.status)
        status[place] ^= 1
        with pytest.raises(CardNotGenuineError, match="signature"):
            check(replace(found, status=bytes(status)))


@given(st.binary(min_size=64, max_size=64))
async def test_no_made_up_signature_passes(signature: bytes) -> None:
    with pytest.raises(CardNotGenuineError):
        check(CardVerdict(bytes(verdict.STATUS_BYTES), signature))


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64, bytes(32) + b"\x01" * 32])
async def test_a_signature_of_zeros_or_beyond_the_order_does_not_pass(signature: bytes) -> None:
    found = await verdict_of(IMAGE)
    with pytest.raises(CardNotGenuineError):
        check(replace(found, signature=signature))


@given(STATUSES)
def test_a_status_comes_back_as_it_went_in(status: Status) -> None:
    assert Status.parse(status.to_bytes()) == status


@given(st.binary(max_size=120) | st.binary(min_size=verdict.STATUS_BYTES, max_size=verdict.STATUS_BYTES))
def test_any_bytes_are_a_status_with_one_encoding_or_are_refused(data: bytes) -> None:
    try:
        status = Status.parse(data)
    except CardDataError:
        return
    assert status.to_bytes() == data


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 2), (1, 0), (1, 3), (2, 1 << 5), (3, 1 << 4), (4, 0x10), (8, 0xFE), (13, 2)],
)
def test_a_status_with_a_reserved_value_is_refused(place: int, value: int) -> None:
    data = bytearray.fromhex("01010000" + "03ffffffff" + "00000001" + "00" * 22)
    assert Status.parse(bytes(data)).pin1_tries == 3
    data[place] = value
    with pytest.raises(CardDataError):
        Status.parse(bytes(data))


async def test_a_card_key_on_another_curve_proves_nothing() -> None:
    key = ec.derive_private_key(4711, ec.SECP256K1())
    status = (await verdict_of(IMAGE)).status
    der = key.sign(verdict_digest_input(CHALLENGE, status), ec.ECDSA(SHA256()))
    r, s = utils.decode_dss_signature(der)
    found = CardVerdict(status, r.to_bytes(32) + s.to_bytes(32))
    certificate = replace(forge.GOOD, key=key).der()
    with pytest.raises(CardNotGenuineError, match="another algorithm"):
        verdict.check(found, CHALLENGE, certificate, forge.trust(), AT, expected_document="S00000001")


@pytest.mark.parametrize(
    "subject",
    [[(NameOID.COMMON_NAME, "nobody")], [(NameOID.SERIAL_NUMBER, "S00000001"), (NameOID.SERIAL_NUMBER, "S00000002")]],
)
def test_a_certificate_without_exactly_one_document_is_refused(
    subject: list[tuple[x509.ObjectIdentifier, str]],
) -> None:
    with pytest.raises(CardDataError):
        verdict.document_number(replace(forge.GOOD, subject=subject).der())


@pytest.mark.parametrize("tag", range(256))
def test_a_document_number_of_any_type_is_read_or_refused(tag: int) -> None:
    der = IMAGE.card_certificate
    place = der.index(b"\x09S00000001") - 1
    with contextlib.suppress(CardDataError):
        assert verdict.document_number(der[:place] + bytes([tag]) + der[place + 1 :]) == "S00000001"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_verdict_or_are_refused(data: bytes) -> None:
    try:
        found = CardVerdict.parse(data)
    except CardDataError:
        return
    assert found.to_bytes() == data


@given(st.binary(max_size=600))
def test_any_bytes_are_a_card_certificate_or_are_refused(data: bytes) -> None:
    with pytest.raises(CardDataError):
        verdict.document_number(data)


def test_a_certificate_names_its_document() -> None:
    assert verdict.document_number(IMAGE.card_certificate) == "S00000001"
