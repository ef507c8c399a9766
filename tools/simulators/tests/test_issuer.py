from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cards import numbers
from tools.simulators import issuer
from tools.simulators.issuer import Citizen, Defect

SEEDS = st.integers(0, issuer.MAX_SEED)
_DIGEST = """
import hashlib
from tools.simulators import issuer
image = issuer.personalise(4711)
files = [file.content for file in (*image.master, *image.lds, *image.eid)]
print(hashlib.sha256(b"".join(files) + issuer.trust_list_pem() + image.pin1).hexdigest())
"""


def all_bytes(seed: int) -> bytes:
    image = issuer.personalise(seed)
    return b"".join(file.content for file in (*image.master, *image.lds, *image.eid))


def test_the_same_number_gives_the_same_bytes_in_every_process() -> None:
    runs = [subprocess.run([sys.executable, "-c", _DIGEST], check=True, capture_output=True).stdout for _ in range(2)]
    here = hashlib.sha256(all_bytes(4711) + issuer.trust_list_pem() + issuer.personalise(4711).pin1).hexdigest()
    assert {run.decode().strip() for run in runs} == {here}


@given(SEEDS)
def test_a_document_number_tells_which_citizen(seed: int) -> None:
    number = Citizen.from_seed(seed).document_number
    assert len(number) == 9
    assert issuer.seed_of(number) == seed


@pytest.mark.parametrize("number", ["", "S", "S1", "X00000001", "S0000000A", "S000000001", "S٠٠٠٠٠٠٠١"])
def test_other_document_numbers_are_not_ours(number: str) -> None:
    assert issuer.seed_of(number) is None


@pytest.mark.requirement("C4")
@given(SEEDS)
def test_every_citizen_has_a_national_number_that_can_be_one(seed: int) -> None:
    citizen = Citizen.from_seed(seed)
    assert numbers.national_number(citizen.national_number) == citizen.national_number
    assert citizen.birth_date < issuer.ISSUE_DATE


def test_there_is_no_citizen_beyond_the_last() -> None:
    for seed in (-1, issuer.MAX_SEED + 1):
        with pytest.raises(ValueError, match="card number"):
            issuer.personalise(seed)


def test_every_certificate_says_that_it_is_simulated() -> None:
    roots = x509.load_pem_x509_certificates(issuer.trust_list_pem())
    card = x509.load_der_x509_certificate(issuer.personalise(1).card_certificate)
    for certificate in (*roots, card):
        for name in (certificate.subject, certificate.issuer):
            organisation, common = name.rdns[1], name.rdns[-1]
            assert "SIMULATED" in organisation.rfc4514_string()
            assert "SIMULATED" in common.rfc4514_string()


def test_cards_differ_and_share_their_issuer() -> None:
    assert all_bytes(1) != all_bytes(2)
    keys = {issuer.personalise(seed).card_key.private_numbers().private_value for seed in range(20)}
    assert len(keys) == 20


def test_a_defect_changes_what_it_names_and_no_more() -> None:
    whole = issuer.personalise(1)
    clone = issuer.personalise(1, Defect.CLONED_CHIP)
    assert (clone.groups, clone.security_object, clone.card_certificate) == (
        whole.groups,
        whole.security_object,
        whole.card_certificate,
    )
    assert clone.card_key.private_numbers() != whole.card_key.private_numbers()
    tampered = issuer.personalise(1, Defect.TAMPERED_DG1)
    assert tampered.security_object == whole.security_object
    assert tampered.groups[1] != whole.groups[1]
    assert issuer.personalise(1, Defect.EXPIRED).printed["expiry"] == "2024-03-19"
