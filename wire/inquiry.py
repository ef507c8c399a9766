"""What a terminal, the national exchange (NIX) and the civil registry say to each other.

An `Envelope` carries a clear, signed `TraceHeader`, which is all that NIX may read and log, and a signed body that it
passes on unread. Answers come back as opaque bytes signed by the registry. Every signed thing has a type of its own.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Annotated, ClassVar, Final

import msgspec

from wire import cbor
from wire.failures import Failure
from wire.fields import Count, Digest, Id16, Label, Message, Text, TimeMs

TRACE_TYPE: Final = "govah-trace;v=1"
REQUEST_TYPE: Final = "govah-request;v=1"
ANSWER_TYPE: Final = "govah-answer;v=1"
TIME_TYPE: Final = "govah-time;v=1"
MAX_ENVELOPE_BYTES: Final = 128 * 1024
CHALLENGE_LIFETIME_S: Final = 120
MAX_ANSWER_BYTES: Final = 48 * 1024
MEDIA_TYPE: Final = "application/cbor"
IDENTITY_SERVICE: Final = "10031094100"
"""The identity inquiry service as decree 000 prints it: eleven digits, kept as text, not a valid legal id."""
CARD_ASSERTION: Final = "nocr.card_assertion"
"""The card assertion's id in the permission matrix."""

Blob = Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]
GroupHashes = Annotated[
    dict[
        Annotated[int, msgspec.Meta(ge=1, le=16)],
        Annotated[bytes, msgspec.Meta(min_length=20, max_length=64)],
    ],
    msgspec.Meta(min_length=1, max_length=16),
]
Certificate = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]


class TraceHeader(Message, frozen=True):
    """Signed by the terminal as `TRACE_TYPE`. Requests are traceable, answers are not (decree 004, art. 3 note 2)."""

    trace_id: Id16
    from_agency: Label
    to_agency: Label
    service: Label
    """Id in the permission matrix, for example ``nocr.card_assertion``."""
    legal_basis: Label
    office_class: Label
    at_ms: TimeMs
    size_bucket: Count
    """Size of the body, rounded up to the next KiB."""
    body_hash: Digest

    KEYS: ClassVar = {
        1: "trace_id", 2: "from_agency", 3: "to_agency", 4: "service", 5: "legal_basis", 6: "office_class",
        7: "at_ms", 8: "size_bucket", 9: "body_hash",
    }  # fmt: skip


class Envelope(Message, frozen=True):
    """What a terminal posts to NIX, and NIX, unchanged, to the registry."""

    header: Blob
    """`TraceHeader` as COSE_Sign1."""
    body: Blob
    """`ChallengeRequest` or `AssertRequest` as COSE_Sign1."""
    certificate: Certificate
    """DER of the certificate whose key signed both."""

    KEYS: ClassVar = {1: "header", 2: "body", 3: "certificate"}


class ChallengeRequest(Message, frozen=True):
    """Opens an inquiry: who asks, for what, about which card. `op` is 1."""

    req_id: Id16
    aud: Label
    svc: Label
    min_loa: Annotated[int, msgspec.Meta(ge=1, le=4)]
    txh: Digest
    legal_basis: Label
    card_certificate: Certificate
    """DER certificate of the card's key 03; tells the registry which card."""
    op: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1

    KEYS: ClassVar = {
        0: "op", 1: "req_id", 2: "aud", 3: "svc", 4: "min_loa", 5: "txh", 6: "legal_basis", 7: "card_certificate",
    }  # fmt: skip


class AssertRequest(Message, frozen=True):
    """Answers the challenge with what the card signed. `op` is 2."""

    req_id: Id16
    nonce: Digest
    security_object: Blob
    """EF.SOD as read."""
    group_hashes: GroupHashes
    """Data group number to the hash of the group as read, in the security object's algorithm."""
    verdict_status: Annotated[bytes, msgspec.Meta(max_length=128)]
    verdict_signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    op: Annotated[int, msgspec.Meta(ge=2, le=2)] = 2

    KEYS: ClassVar = {
        0: "op", 1: "req_id", 2: "nonce", 3: "security_object", 4: "group_hashes", 5: "verdict_status",
        6: "verdict_signature",
    }  # fmt: skip


class CardStatus(IntEnum):
    """What the registry holds of a card, now."""

    VALID = 1
    REVOKED = 2
    LOST = 3
    EXPIRED = 4
    UNKNOWN = 5


class Answer(Message, frozen=True):
    """Signed by the registry (or, for what it refuses itself, by NIX) as `ANSWER_TYPE`. Always has a tracking code."""

    req_id: Id16
    tracking_code: Label
    failure: Failure
    at_ms: TimeMs
    card_status: CardStatus | None = None
    nonce: Digest | None = None
    """With `lifetime_s` and `policy`: a challenge."""
    lifetime_s: Count | None = None
    policy: Label | None = None
    token: Blob | None = None
    """The assertion."""
    missing_decision: Text | None = None
    """For `Failure.NOT_PERMITTED`: which decision would be needed."""

    KEYS: ClassVar = {
        1: "req_id", 2: "tracking_code", 3: "failure", 4: "at_ms", 5: "card_status", 6: "nonce", 7: "lifetime_s",
        8: "policy", 9: "token", 10: "missing_decision",
    }  # fmt: skip


class TimeRequest(Message, frozen=True):
    """Asks for the registry's signed time; not signed, for whoever asks has no trusted time yet."""

    nonce: Id16

    KEYS: ClassVar = {1: "nonce"}


class TimeAnswer(Message, frozen=True):
    """Signed by the registry as `TIME_TYPE`; `nonce` is the asker's, so an old answer cannot be replayed."""

    nonce: Id16
    at_ms: TimeMs

    KEYS: ClassVar = {1: "nonce", 2: "at_ms"}


def transaction_hash(*, service: str, audience: str, act_reference: str, salt: bytes, at_ms: int) -> bytes:
    """SHA-256 that binds evidence to one act. The relying party keeps `salt` (16 bytes) and can recompute it."""
    return hashlib.sha256(cbor.encode(["NCP-TX/1", service, audience, act_reference, salt, at_ms])).digest()


def card_challenge(*, nonce: bytes, terminal: bytes, audience: str, txh: bytes, policy: str) -> bytes:
    """The 32 bytes that the card signs in its verdict (sealed-session flow F1 step 7, without a reader key yet).

    `terminal` is the thumbprint of the terminal's key.
    """
    return hashlib.sha256(cbor.encode(["NCP-ASSERT/1", nonce, terminal, audience, txh, policy])).digest()


def verdict_digest_input(challenge: bytes, status: bytes) -> bytes:
    """What the card's key 03 signs with SHA-256: label, 0, challenge, status as the card itself filled it.

    Raises:
        ValueError: the challenge is not 32 bytes; with another length its end could pass for the status's beginning.
    """
    if len(challenge) != 32:
        raise ValueError("a challenge has 32 bytes")
    return b"NCP-R1/verdict/1\x00" + challenge + status
