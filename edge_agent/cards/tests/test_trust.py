from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import passive_auth
from edge_agent.cards.errors import CardDataError, TrustListRefusedError
from edge_agent.cards.tests import forge
from edge_agent.cards.tests.in_hand import AT
from edge_agent.cards.trust import ChainFault, TrustList, chain_fault, load_certificate
from tools.simulators import issuer
from tools.simulators.issuer import Defect
from wire.failures import Failure

PEM = issuer.trust_list_pem()
FOREIGN_PEM = issuer.trust_list_pem(foreign=True)


def test_roots_are_sorted_by_their_purpose() -> None:
    trust = TrustList.from_pem(PEM)
    assert [root.subject.rfc4514_string().split(",")[0] for root in trust.country_signers] == [
        "CN=SIMULATED country signer"
    ]
    assert len(trust.card_key_authorities) == 1


def leaf_pem() -> bytes:
    return x509.load_der_x509_certificate(issuer.personalise(1).card_certificate).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "data",
    [b"", b"nothing", PEM[: len(PEM) // 2], PEM[:900], PEM + leaf_pem(), PEM + bytes(2 * 1024 * 1024)],
    ids=["empty", "text", "half", "one purpose", "a leaf", "too long"],
)
def test_a_list_that_is_not_whole_is_no_list(data: bytes) -> None:
    with pytest.raises(TrustListRefusedError) as caught:
        TrustList.from_pem(data)
    assert caught.value.failure is Failure.TRUST_LIST_MISSING


@pytest.mark.requirement("C7")
def test_two_generations_of_roots_with_the_same_names_work_side_by_side() -> None:
    both = TrustList.from_pem(FOREIGN_PEM + PEM)
    for defect in (None, Defect.FOREIGN_ISSUER):
        image = issuer.personalise(1, defect)
        passive_auth.authenticate(image.security_object, image.groups, both, AT)
        assert chain_fault(load_certificate(image.card_certificate), both.card_key_authorities, AT) is None


def test_each_rule_for_an_end_certificate_is_held() -> None:
    def fault(plan: forge.CertificatePlan, root: forge.CertificatePlan = forge.ROOT_PLAN) -> ChainFault | None:
        return chain_fault(plan.made(), forge.trust(root).country_signers, AT)

    good = forge.GOOD
    assert fault(good) is None
    assert fault(replace(good, issuer="another")) is ChainFault.UNKNOWN_ISSUER
    assert fault(replace(good, years=(2025, 2026))) is ChainFault.NOT_IN_FORCE
    assert fault(replace(good, years=(2028, 2036))) is ChainFault.NOT_IN_FORCE
    assert fault(good, replace(forge.ROOT_PLAN, years=(2024, 2026))) is ChainFault.NOT_IN_FORCE
    assert fault(replace(good, with_usage=False)) is ChainFault.KEY_USAGE
    assert fault(replace(good, signs_data=False)) is ChainFault.KEY_USAGE
    assert fault(replace(good, authority=True)) is ChainFault.KEY_USAGE
    assert fault(replace(good, critical_extra=True)) is ChainFault.CRITICAL_EXTENSION
    assert fault(replace(good, algorithm=hashes.SHA224())) is ChainFault.ALGORITHM


def test_a_root_is_no_signer_of_data_itself() -> None:
    trust = TrustList.from_pem(PEM)
    root = trust.country_signers[0]
    assert chain_fault(root, trust.country_signers, AT) is ChainFault.KEY_USAGE


@pytest.mark.filterwarnings("ignore::UserWarning")  # cryptography frowns at some certificates before it refuses them
@given(st.integers(0, 500), st.binary(min_size=1, max_size=3))
def test_a_mutated_certificate_is_unreadable_or_out_of_the_chain(place: int, piece: bytes) -> None:
    trust = TrustList.from_pem(PEM)
    der = issuer.personalise(1).card_certificate
    mutated = der[:place] + piece + der[place + len(piece) :]
    try:
        fault = chain_fault(load_certificate(mutated), trust.card_key_authorities, AT)
    except CardDataError:
        return
    assert fault is not None or mutated == der


def test_a_certificate_of_an_unknown_version_is_card_data_trouble() -> None:
    der = issuer.personalise(1).card_certificate
    with pytest.raises(CardDataError):
        load_certificate(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x68", 1))
