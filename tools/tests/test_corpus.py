"""The corpus file, the script that made it and the verifier agree, and one token is tried bit by bit."""

from __future__ import annotations

import json

import pytest

from tools.verifier import corpus
from wire import assertion, cose
from wire.assertion import Outcome

KEYS = {cose.key_id(corpus.KEY.public_key()): corpus.KEY.public_key()}
STORED = json.loads(corpus.FILE.read_text(encoding="utf-8"))
GENUINE = {Outcome.GENUINE_NOW, Outcome.GENUINE_PAST, Outcome.OTHER_AUDIENCE}


def judged(token: bytes) -> Outcome:
    return assertion.verify(token, KEYS, audience=corpus.AUDIENCE, at=corpus.AT).outcome


def test_the_stored_corpus_is_what_its_script_makes() -> None:
    assert corpus.FILE.read_text(encoding="utf-8") == corpus.text()


def test_the_corpus_has_hundreds_of_cases_and_every_outcome() -> None:
    assert len(STORED) > 300
    assert {case["expected"] for case in STORED} == set(Outcome)


@pytest.mark.requirement("A10")
@pytest.mark.parametrize("case", STORED, ids=lambda case: case["name"])
def test_a_stored_token_comes_out_as_its_case_says(case: dict[str, str]) -> None:
    verdict = assertion.verify(bytes.fromhex(case["token"]), KEYS, audience=case["audience"], at=int(case["at"]))
    assert verdict.outcome == case["expected"], verdict.reason


@pytest.mark.requirement("B6")
def test_every_bit_of_the_token_matters() -> None:
    kid_at = corpus.GOOD.index(cose.key_id(corpus.KEY.public_key()))
    for position in range(len(corpus.GOOD)):
        expected = Outcome.UNKNOWN_ISSUER if kid_at <= position < kid_at + 16 else Outcome.ALTERED
        for bit in range(8):
            changed = bytearray(corpus.GOOD)
            changed[position] ^= 1 << bit
            assert judged(bytes(changed)) is expected, (position, bit)


def test_a_token_cut_at_any_length_is_altered() -> None:
    assert judged(b"") is Outcome.CANNOT_CHECK
    assert {judged(corpus.GOOD[:length]) for length in range(1, len(corpus.GOOD))} == {Outcome.ALTERED}


def test_a_byte_taken_out_put_in_or_doubled_anywhere_is_never_genuine() -> None:
    good = corpus.GOOD
    for position in range(len(good)):
        for other in (
            good[:position] + good[position + 1 :],
            good[:position] + b"\x00" + good[position:],
            good[: position + 1] + good[position:],
        ):
            assert judged(other) not in GENUINE or other == good
