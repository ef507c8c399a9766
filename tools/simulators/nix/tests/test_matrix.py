"""The permission matrix: what resolution 1 of session 38 grants, and nothing else."""

from __future__ import annotations

import json
from itertools import product

import pytest

from tools.simulators.nix import matrix
from tools.simulators.nix.matrix import Denial, Grant, MatrixError
from tools.simulators.registry.tests.world import MATRIX

GRANTED = {
    "شهرداری مشهد": {
        "nocr.identity_match",
        "ssaa.deed_authenticity",
        "behzisti.client_status",
        "emdad.client_status",
        "isaar.status",
        "post.postcode",
        "post.address_text",
    },
    "سازمان مدارس و مراکز غیردولتی و توسعه مشارکت‌های مردمی": {
        "judiciary.no_record_authenticity",
        "msrt.last_degree",
        "tamin.treatment_entitlement",
        "post.postcode",
        "nocr.identity_match",
        "cra.shahkar",
    },
    "قوه قضائیه": {"behzisti.client_status", "cbi.nid_iban_match"},
    "پژوهشگاه دانش‌های بنیادی": {"msrt.last_status", "cra.shahkar"},
    "معاونت علمی و فناوری ریاست جمهوری": {"msrt.degree", "msrt.last_status", "judiciary.no_record_authenticity"},
    "صندوق بیمه حوادث طبیعی ساختمان": {"nocr.identity_match", "post.postcode", "cra.shahkar", "cbi.nid_iban_match"},
    "صندوق تأمین خسارت‌های بدنی": {"emdad.client_status", "behzisti.client_status"},
}
SERVICES = sorted(set.union(*GRANTED.values()))
THE_MATRIX = matrix.load(MATRIX)


def decide(agency: str, service: str, office_class: str = "agency") -> Grant | Denial:
    return THE_MATRIX.decide(agency=agency, office_class=office_class, service=service, owner=service.partition(".")[0])


@pytest.mark.requirement("D11")
def test_the_resolution_has_98_cells_of_which_26_are_granted() -> None:
    cells = {cell: decide(*cell) for cell in product(GRANTED, SERVICES)}
    granted = {cell for cell, decision in cells.items() if isinstance(decision, Grant)}
    assert granted == {(agency, service) for agency, services in GRANTED.items() for service in services}
    assert (len(cells), len(granted)) == (98, 26)
    assert all(cells[cell] == Grant("38/1", simulated=False) for cell in granted)


@pytest.mark.requirement("D11")
@pytest.mark.parametrize("office_class", ["notary", "bank"])
def test_the_grants_of_notaries_and_banks_are_marked_as_simulated(office_class: str) -> None:
    assert decide("demo", "nocr.card_assertion", office_class) == Grant("SIM/1", simulated=True)
    assert isinstance(decide("demo", "nocr.identity_match", office_class), Denial)


@pytest.mark.requirement("D11")
@pytest.mark.parametrize("agency", GRANTED)
def test_no_agency_of_the_resolution_gets_the_card_assertion_by_its_name(agency: str) -> None:
    assert isinstance(decide(agency, "nocr.card_assertion"), Denial)


def test_a_denial_names_the_missing_decision_in_both_languages_and_fits_its_field() -> None:
    decision = decide("ش" * 64, "nocr." + "x" * 59, "c" * 64)
    assert isinstance(decision, Denial)
    assert "مصوبهٔ کارگروه تعامل‌پذیری" in decision.missing
    assert "decision of the interoperability working group" in decision.missing
    assert len(decision.missing) <= 256


def test_a_service_is_asked_of_its_owner_only() -> None:
    decision = THE_MATRIX.decide(
        agency="شهرداری مشهد", office_class="agency", service="nocr.identity_match", owner="post"
    )
    assert isinstance(decision, Denial)
    wordy = THE_MATRIX.decide(agency="a" * 64, office_class="b" * 64, service="c" * 64, owner="d" * 64)
    assert isinstance(wordy, Denial)
    assert len(wordy.missing) <= 256


@pytest.mark.parametrize(
    "change",
    [
        {"format": "govah-permission-matrix;v=9"},
        {"more": 1},
        {"decisions": [{"number": "1", "simulated": False}]},
        {"decisions": [{"number": "1", "simulated": "no", "source": ""}]},
        {"decisions": None},
    ],
)
def test_a_file_that_is_not_the_matrix_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MatrixError):
        matrix.load(json.dumps({**json.loads(MATRIX), **change}).encode())
    with pytest.raises(MatrixError):
        matrix.load(b"\xff")
