"""The registry's desk: what it grants, what it refuses, and that whatever happens ends with a code."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.cards import verdict
from tools.simulators import issuer
from tools.simulators.registry.tests.world import AUDIENCE, Terminal, World, answer_to, verdict_status
from wire import assertion, cbor, cose, fields, loa, tracking_code
from wire.failures import Failure
from wire.inquiry import (
    IDENTITY_SERVICE,
    REQUEST_TYPE,
    TIME_TYPE,
    Answer,
    CardStatus,
    ChallengeRequest,
    TimeAnswer,
    TimeRequest,
)

CARD = issuer.personalise(7)
OTHER_CARD = issuer.personalise(8)


def opened(world: World, **other: object) -> tuple[ChallengeRequest, Answer]:
    request = world.terminal.challenge_request(CARD, **other)
    answer = world.ask(request)
    assert answer.failure is Failure.NONE
    return request, answer


def refused(world: World, answer: Answer, failure: Failure) -> None:
    """A refusal says why, grants nothing and has a code that the registry knows."""
    assert answer.failure is failure
    assert answer.token is None
    assert answer.nonce is None
    assert tracking_code.parse(answer.tracking_code) == answer.tracking_code
    assert world.registry_store.code(answer.tracking_code) is not None


@pytest.mark.requirement("B1")
def test_proofs_of_a_genuine_card_give_an_assertion_for_this_act_alone(world: World) -> None:
    request, challenge = opened(world)
    evidence = answer_to(request, challenge, world.terminal, CARD)
    answer = world.ask(evidence)
    assert answer.token is not None
    public = world.registry_key.public_key()
    judged = assertion.verify(answer.token, {cose.key_id(public): public}, audience=AUDIENCE, at=world.clock() // 1000)
    assert judged.outcome is assertion.Outcome.GENUINE_NOW, judged.reason
    claims = judged.claims
    assert claims is not None
    assert (claims.svc, claims.aud, claims.txh, claims.nonce) == (
        IDENTITY_SERVICE,
        AUDIENCE,
        request.txh,
        challenge.nonce,
    )
    assert claims.svc == "10031094100"
    assert claims.trk == challenge.tracking_code == answer.tracking_code
    assert claims.trm == world.terminal.thumbprint
    assert claims.att == hashlib.sha256(fields.encode(evidence)).digest()
    assert claims.loa == 2
    assert claims.evb == int(
        loa.Evidence.PASSIVE_AUTH | loa.Evidence.CARD_SIGNED | loa.Evidence.STATUS_FRESH | loa.Evidence.CONTACT
    )
    assert claims.exp == claims.iat + 900


def test_the_same_person_looks_different_to_every_audience_and_the_same_to_one(world: World) -> None:
    seen = []
    for audience in (AUDIENCE, AUDIENCE, "10101010101/0001"):
        request, challenge = opened(world, aud=audience)
        token = world.ask(answer_to(request, challenge, world.terminal, CARD)).token
        assert token is not None
        claims = fields.from_map(cbor.decode(cose.parse(token).payload, max_bytes=4096), assertion.Claims)
        seen.append((claims.sub, claims.crf))
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])


@pytest.mark.requirement("B5")
def test_a_repeated_request_gets_the_same_answer_and_opens_nothing_new(world: World) -> None:
    request = world.terminal.challenge_request(CARD)
    first = world.office.answer(world.terminal.envelope(world.terminal.sealed(request), world.clock()))
    counts = world.registry_store.counts()
    world.clock.ms += 40_000
    again = world.office.answer(world.terminal.envelope(world.terminal.sealed(request), world.clock()))
    assert again == first
    assert world.registry_store.counts() == counts
    evidence = answer_to(request, world.read(first), world.terminal, CARD)
    granted = world.ask(evidence)
    assert granted.token is not None
    assert world.ask(evidence) == granted


def test_a_challenge_is_consumed_by_the_first_answer_even_a_wrong_one(world: World) -> None:
    request, challenge = opened(world)
    refused(
        world,
        world.ask(answer_to(request, challenge, world.terminal, CARD, verdict_signature=bytes(63) + b"\x01")),
        Failure.CARD_NOT_GENUINE,
    )
    late = world.ask(answer_to(request, challenge, world.terminal, CARD))
    refused(world, late, Failure.REGISTRY_REFUSED)
    assert late.tracking_code == challenge.tracking_code


def test_a_wrong_nonce_consumes_the_challenge_too(world: World) -> None:
    request, challenge = opened(world)
    wrong = world.ask(answer_to(request, challenge, world.terminal, CARD, nonce=bytes(32)))
    refused(world, wrong, Failure.REGISTRY_REFUSED)
    assert wrong.tracking_code == challenge.tracking_code
    refused(world, world.ask(answer_to(request, challenge, world.terminal, CARD)), Failure.REGISTRY_REFUSED)


def test_a_second_answer_does_not_touch_what_was_asserted(world: World) -> None:
    request, challenge = opened(world)
    assert world.ask(answer_to(request, challenge, world.terminal, CARD)).token is not None
    before = world.registry_store.code(challenge.tracking_code)
    refused(world, world.ask(answer_to(request, challenge, world.terminal, CARD)), Failure.REGISTRY_REFUSED)
    assert world.registry_store.code(challenge.tracking_code) == before


@pytest.mark.parametrize(("late_ms", "failure"), [(120_000, Failure.NONE), (120_001, Failure.REGISTRY_REFUSED)])
def test_a_challenge_lives_120_seconds_and_not_longer(world: World, late_ms: int, failure: Failure) -> None:
    request, challenge = opened(world)
    world.clock.ms += late_ms
    assert world.ask(answer_to(request, challenge, world.terminal, CARD)).failure is failure


def test_another_terminal_can_neither_answer_nor_spoil_a_challenge(world: World) -> None:
    request, challenge = opened(world)
    evidence = answer_to(request, challenge, world.terminal, CARD)
    stolen = world.ask(evidence, world.other_terminal)
    refused(world, stolen, Failure.REGISTRY_REFUSED)
    assert stolen.tracking_code != challenge.tracking_code
    assert world.ask(evidence).token is not None


def test_a_card_that_signed_for_another_terminal_proves_nothing_here(world: World) -> None:
    request, challenge = opened(world)
    relayed = answer_to(request, challenge, world.other_terminal, CARD)
    refused(world, world.ask(relayed), Failure.CARD_NOT_GENUINE)


@pytest.mark.parametrize("field", ["aud", "txh"])
def test_a_card_that_signed_for_another_act_or_audience_proves_nothing_here(world: World, field: str) -> None:
    request, challenge = opened(world)
    other: dict[str, object] = {"aud": "10101010101/0001", "txh": bytes(32)}
    elsewhere = ChallengeRequest(
        **{**{name: getattr(request, name) for name in request.KEYS.values()}, field: other[field]}
    )
    refused(world, world.ask(answer_to(elsewhere, challenge, world.terminal, CARD)), Failure.CARD_NOT_GENUINE)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (CardStatus.REVOKED, Failure.CARD_NOT_VALID_ANY_MORE),
        (CardStatus.LOST, Failure.CARD_NOT_VALID_ANY_MORE),
        (CardStatus.UNKNOWN, Failure.CARD_NOT_VALID_ANY_MORE),
        (CardStatus.EXPIRED, Failure.CARD_EXPIRED),
    ],
)
@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.requirement("B5")
def test_a_card_that_is_not_valid_gets_no_assertion_but_a_code(
    world: World, status: CardStatus, failure: Failure, when: str
) -> None:
    document_number = CARD.printed["document_number"]
    request = world.terminal.challenge_request(CARD)
    if when == "before":
        world.registry_store.set_card_status(document_number, status)
        answer = world.ask(request)
    else:
        challenge = world.ask(request)
        world.registry_store.set_card_status(document_number, status)
        answer = world.ask(answer_to(request, challenge, world.terminal, CARD))
    refused(world, answer, failure)
    assert answer.card_status is status


def test_the_verdict_of_another_genuine_card_is_refused(world: World) -> None:
    request, challenge = opened(world)
    status = verdict_status()
    other = answer_to(request, challenge, world.terminal, OTHER_CARD, status=status)
    mixed = answer_to(request, challenge, world.terminal, CARD, verdict_signature=other.verdict_signature)
    refused(world, world.ask(mixed), Failure.CARD_NOT_GENUINE)


def test_authentic_data_of_another_card_is_refused(world: World) -> None:
    request, challenge = opened(world)
    other = answer_to(request, challenge, world.terminal, OTHER_CARD)
    mixed = answer_to(
        request,
        challenge,
        world.terminal,
        CARD,
        security_object=other.security_object,
        group_hashes=other.group_hashes,
    )
    refused(world, world.ask(mixed), Failure.CARD_NOT_GENUINE)


@pytest.mark.parametrize(
    ("defect", "failure"),
    [
        (issuer.Defect.EXPIRED, Failure.CARD_EXPIRED),
        (issuer.Defect.TAMPERED_DG1, Failure.CARD_DATA_NOT_AUTHENTIC),
        (issuer.Defect.FOREIGN_ISSUER, Failure.CARD_NOT_GENUINE),
        (issuer.Defect.CLONED_CHIP, Failure.CARD_NOT_GENUINE),
        (issuer.Defect.MIXED_CHIP, Failure.CARD_NOT_GENUINE),
    ],
)
def test_the_registry_finds_every_defect_itself(world: World, defect: issuer.Defect, failure: Failure) -> None:
    card = issuer.personalise(7, defect)
    request = world.terminal.challenge_request(card)
    answer = world.ask(request)
    if answer.failure is Failure.NONE:
        answer = world.ask(answer_to(request, answer, world.terminal, card))
    refused(world, answer, failure)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"security_object": b"\x77\x00"}, Failure.CARD_DATA_NOT_AUTHENTIC),
        ({"security_object": b""}, Failure.CARD_DATA_NOT_AUTHENTIC),
        ({"group_hashes": {1: bytes(32)}}, Failure.CARD_DATA_NOT_AUTHENTIC),
        ({"group_hashes": {11: bytes(32)}}, Failure.CARD_DATA_NOT_AUTHENTIC),
        ({"status": b""}, Failure.CARD_NOT_GENUINE),
    ],
)
def test_malformed_proofs_are_refused_with_a_code(world: World, change: dict[str, Any], failure: Failure) -> None:
    request, challenge = opened(world)
    refused(world, world.ask(answer_to(request, challenge, world.terminal, CARD, **change)), failure)


def test_a_certificate_that_is_none_is_refused_with_a_code(world: World) -> None:
    answer = world.ask(world.terminal.challenge_request(CARD, card_certificate=b"\x30\x00"))
    refused(world, answer, Failure.CARD_NOT_GENUINE)


@pytest.mark.parametrize("min_loa", [3, 4])
def test_a_card_that_speaks_of_pin_and_finger_raises_no_level(world: World, min_loa: int) -> None:
    """The card's status has a place for what it saw; without an attested reader those bits are worth nothing."""
    everything = verdict_status(
        verdict.Session.PIN1 | verdict.Session.FINGER_96 | verdict.Session.FINGER_97 | verdict.Session.PACE
    )
    request, challenge = opened(world)
    token = world.ask(answer_to(request, challenge, world.terminal, CARD, status=everything)).token
    assert token is not None
    claims = fields.from_map(cbor.decode(cose.parse(token).payload, max_bytes=4096), assertion.Claims)
    unproved = ~(
        loa.Evidence.PASSIVE_AUTH | loa.Evidence.CARD_SIGNED | loa.Evidence.STATUS_FRESH | loa.Evidence.CONTACT
    )
    assert not loa.Evidence(claims.evb) & unproved
    request, challenge = opened(world, min_loa=min_loa)
    answer = world.ask(answer_to(request, challenge, world.terminal, CARD, status=everything))
    refused(world, answer, Failure.TOO_LITTLE_ASSURANCE)
    assert answer.tracking_code == challenge.tracking_code


def test_a_request_id_opens_one_inquiry_only(world: World) -> None:
    request, challenge = opened(world)
    again = world.ask(world.terminal.challenge_request(CARD, req_id=request.req_id))
    refused(world, again, Failure.REGISTRY_REFUSED)
    assert again.tracking_code != challenge.tracking_code
    assert world.ask(answer_to(request, challenge, world.terminal, CARD)).token is not None


@pytest.mark.requirement("A12")
def test_an_act_gets_one_assertion(world: World) -> None:
    first, challenge = opened(world)
    second, challenge_2 = opened(world, txh=first.txh)
    assert world.ask(answer_to(first, challenge, world.terminal, CARD)).token is not None
    refused(world, world.ask(answer_to(second, challenge_2, world.terminal, CARD)), Failure.REGISTRY_REFUSED)
    refused(world, world.ask(world.terminal.challenge_request(CARD, txh=first.txh)), Failure.REGISTRY_REFUSED)


@pytest.mark.requirement("A17")
@pytest.mark.parametrize("change", [{"legal_basis": "none"}, {"service": "nocr.identity_match"}])
def test_a_header_that_says_something_else_than_the_body_is_refused(world: World, change: dict[str, object]) -> None:
    body = world.terminal.sealed(world.terminal.challenge_request(CARD))
    answer = world.read(world.office.answer(world.terminal.envelope(body, world.clock(), **change)))
    refused(world, answer, Failure.REGISTRY_REFUSED)
    request, challenge = opened(world)
    evidence = world.terminal.sealed(answer_to(request, challenge, world.terminal, CARD))
    answer = world.read(world.office.answer(world.terminal.envelope(evidence, world.clock(), **change)))
    refused(world, answer, Failure.REGISTRY_REFUSED)


@pytest.mark.requirement("B5")
def test_even_what_cannot_be_read_ends_with_a_code(world: World) -> None:
    terminal = world.terminal
    stranger = Terminal(ec.generate_private_key(ec.SECP256R1()), terminal.certificate, terminal.chance)
    body = terminal.sealed(terminal.challenge_request(CARD))
    for data in (
        b"",
        b"\xa0",
        terminal.envelope(b"not signed", world.clock()),
        terminal.envelope(stranger.sealed(terminal.challenge_request(CARD)), world.clock()),
        stranger.envelope(body, world.clock()),
        terminal.envelope(body, world.clock() - 120_001),
        terminal.envelope(cose.sign(cbor.encode({0: 3}), terminal.key, REQUEST_TYPE), world.clock()),
        terminal.envelope(cose.sign(b"\x80", terminal.key, REQUEST_TYPE), world.clock()),
    ):
        refused(world, world.read(world.office.answer(data)), Failure.REQUEST_REFUSED)


def test_the_time_is_signed_for_the_asker_alone(world: World) -> None:
    request = TimeRequest(world.terminal.chance(16))
    signed = world.office.time(fields.encode(request))
    answer = fields.decode(cose.open_signed(signed, world.registry_key.public_key(), TIME_TYPE), TimeAnswer)
    assert answer == TimeAnswer(request.nonce, world.clock())


def test_a_request_that_fails_half_way_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_: object) -> None:
        raise RuntimeError("the disk is gone")

    before = world.registry_store.counts()
    request = world.terminal.challenge_request(CARD)
    with monkeypatch.context() as broken:
        broken.setattr(
            fields,
            "encode",
            lambda message, real=fields.encode: no_disk() if isinstance(message, Answer) else real(message),
        )
        with pytest.raises(RuntimeError):
            world.ask(request)
    assert world.registry_store.counts() == before
    assert world.ask(request).failure is Failure.NONE


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library says more of a bad certificate than its refusal
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_bodies_under_a_valid_signature_are_answered_not_raised(world: World, data: st.DataObject) -> None:
    request, challenge = opened(world)
    true = fields.encode(answer_to(request, challenge, world.terminal, CARD))
    changed = cbor.decode(true, max_bytes=65536)
    junk = st.none() | st.integers(-10, 2**64 - 1) | st.binary(max_size=80) | st.text(max_size=8) | st.booleans()
    key = data.draw(st.sampled_from(sorted(changed)))
    changed[key] = data.draw(junk | st.dictionaries(st.integers(0, 20), junk, max_size=3) | st.lists(junk, max_size=3))
    payload = cbor.encode(changed)
    body = cose.sign(payload, world.terminal.key, REQUEST_TYPE)
    answer = world.read(world.office.answer(world.terminal.envelope(body, world.clock())))
    assert tracking_code.parse(answer.tracking_code)
    assert (answer.token is not None) == (payload == true)


def test_a_forged_certificate_with_a_subject_that_is_no_text_is_refused_with_a_code(world: World) -> None:
    """The subject is first looked at when it is read; before that the certificate loads."""
    forged = bytearray(CARD.card_certificate)
    forged[forged.index(b"\x09S00000007") - 1] = 0x03
    answer = world.ask(world.terminal.challenge_request(CARD, card_certificate=bytes(forged)))
    refused(world, answer, Failure.CARD_NOT_GENUINE)
