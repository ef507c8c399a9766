"""Ours against the `cwt` library: neither signs what the other cannot read, and ours is never the laxer one."""

from __future__ import annotations

import re
from typing import Any, Final

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tools.verifier import corpus, oracle
from wire import assertion, cbor, cose
from wire.assertion import Outcome
from wire.fields import to_map

pytestmark = [pytest.mark.bench, pytest.mark.timeout(700)]

KID = cose.key_id(corpus.KEY.public_key())
KEYS = {KID: corpus.KEY.public_key()}
PUBLIC_PEM = corpus.KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE_PEM = corpus.KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

UNFOLDS: Final = "unfold"
"""Cases that are not put to the library: it follows shared references and would be busy for hours."""

STRICTER: Final = {
    "the library reads the first item of the file and ignores what follows": r".* appended|itself in front",
    "the library has no size limit": r"longer than allowed.*",
    "the library allows an unsigned header; ours signs all it reads": r"unprotected (kid|algorithm|receipt|text key)",
    "the library unwraps tag 61 and takes a tag in any length": r"tagged (CWT tag 61 outside|long tag)",
    "(r, n-s) verifies too; a token of ours has one form": r"mirrored signature \(high S\)",
    "the library takes the algorithm from its key and never reads the header's": r"(later .*)?algorithm.*",
    "the library knows no type label (RFC 9596), so no version": r"version «.*»|type as number",
    "the library knows no type label (RFC 9596), so no purpose": r"rightly signed as «.*»",
    "the library knows no fixed header: it misses none and minds no other": r"header (1|16) missing|header with .* too",
    "without a kid it tries the key it was given": r"kid empty",
    "the library accepts any order and length form in the header": r"header (keys in another order|indefinite)",
    "the library accepts doubled and trailing items in it": r"header with (the algorithm twice|a trailing byte)",
    "the library checks claims only when it makes them": r"(claim |payload an empty map).*",
    "the library accepts any order of the claims": r"claims in another order, rightly signed",
    "the library accepts doubled claims": r"(level twice|issuer once more under true), rightly signed",
    "the library accepts a trailing byte": r"claims with a trailing byte, rightly signed",
    "the library's clock was off in this comparison": r"31 s before its issue|in 1970",
}  # fmt: skip


def check(token: bytes, at: int | None) -> dict[str, Any]:
    return {"do": "check", "token": token.hex(), "key": PUBLIC_PEM, "kid": KID.hex(), "at": at}


def test_ours_never_accepts_what_the_oracle_refuses_and_each_difference_is_explained() -> None:
    cases = [case for case in corpus.cases() if UNFOLDS not in case.name]
    answers = oracle.ask(check(case.token, None) for case in cases)
    used = set()
    for case, answer in zip(cases, answers, strict=True):
        ours = case.expected.startswith("genuine")
        assert not (ours and not answer["ok"]), (case.name, answer["why"])
        if answer["ok"] and not ours:
            reasons = [why for why, names in STRICTER.items() if re.fullmatch(names, case.name)]
            assert len(reasons) == 1, (case.name, reasons)
            used.update(reasons)
    assert used == set(STRICTER)


def test_the_oracle_agrees_on_what_is_valid_now() -> None:
    now = [case for case in corpus.cases() if case.expected is Outcome.GENUINE_NOW]
    assert [answer["ok"] for answer in oracle.ask(check(case.token, case.at) for case in now)] == [True] * len(now)
    expired, early = oracle.ask([check(corpus.GOOD, corpus.AT + 931), check(corpus.GOOD, corpus.AT - 31)])
    assert "expired" in expired["why"]
    assert "not yet valid" in early["why"]


@pytest.mark.requirement("A10")
def test_the_oracle_reads_from_our_tokens_the_claims_that_we_put_in() -> None:
    tokens = [assertion.sign(corpus.CLAIMS, corpus.KEY) for _ in range(20)]
    for answer in oracle.ask(check(token, corpus.AT) for token in tokens):
        assert cbor2.loads(bytes.fromhex(answer["claims"])) == to_map(corpus.CLAIMS)


@pytest.mark.requirement("A10")
def test_we_read_the_oracles_tokens_once_their_signature_has_its_one_form() -> None:
    # The library leaves s as it comes, so about half of its signatures are the mirrored ones that ours refuses: the
    # same token must not exist in two forms. Mirrored back, each of them is genuine.
    question = {
        "do": "sign",
        "payload": cbor.encode(corpus.MAP).hex(),
        "header": [[1, cose.ES256], [4, {"hex": KID.hex()}], [16, assertion.TYPE]],
        "key": PRIVATE_PEM,
    }
    tokens = [bytes.fromhex(answer["token"]) for answer in oracle.ask([question] * 64)]
    mirrored = 0
    for token in tokens:
        s = int.from_bytes(token[-32:])
        outcome = assertion.verify(token, KEYS, audience=corpus.AUDIENCE, at=corpus.AT).outcome
        assert outcome is (Outcome.GENUINE_NOW if s <= ORDER // 2 else Outcome.ALTERED)
        if s > ORDER // 2:
            mirrored += 1
            back = token[:-32] + (ORDER - s).to_bytes(32)
            assert assertion.verify(back, KEYS, audience=corpus.AUDIENCE, at=corpus.AT).outcome is Outcome.GENUINE_NOW
    assert 0 < mirrored < 64
