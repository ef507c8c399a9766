"""The assertion (گواهی تأیید صحت کارت هوشمند ملی): its claims, and what a verifier may say of it.

A CWT (RFC 8392) in the COSE_Sign1 profile of `wire.cose`. It is evidence for exactly one transaction of one relying
party (decree 003 article 5 and its note): `exp` limits its *use in that transaction*, not its worth as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from wire import cbor, cose, loa, tracking_code
from wire.fields import Digest, Id16, Label, Message, MessageRefusedError, encode, from_map

TYPE: Final = "govah-assertion;v=1"
TYPE_FAMILY: Final = "govah-assertion;v="
MAX_BYTES: Final = 4096
USE_WITHIN_S: Final = 900
CLOCK_SKEW_S: Final = 30

Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Claims(Message, frozen=True):
    """The payload, claim by claim. Labels below -65536 are private (RFC 8392 section 3)."""

    iss: Label
    aud: Label
    """Legal id and branch of the one relying party, for example ``10380284790/0417``."""
    exp: Seconds
    nbf: Seconds
    iat: Seconds
    cti: Id16
    nonce: Digest
    """The registry's challenge (EAT nonce, RFC 9711)."""
    loa: Annotated[int, msgspec.Meta(ge=1, le=4)]
    evb: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
    """Evidence bitmap, `wire.loa.Evidence`."""
    txh: Digest
    """Hash of the transaction; the salt in it stays with the relying party."""
    trk: Label
    use: Annotated[int, msgspec.Meta(ge=1, le=1)]
    sub: Id16
    """Pairwise pseudonym: the same person looks different to every audience."""
    crf: Id16
    """Pairwise card reference, keyed by the registry: serial numbers cannot be enumerated."""
    pol: Label
    ret: Seconds
    """Retain until. The legal period is a parameter of the registry."""
    svc: Label
    """Inquiry service id, kept as text."""
    att: Digest
    """Hash of the terminal's evidence record."""
    trm: Digest
    """Thumbprint of the terminal's key."""

    KEYS: ClassVar = {
        1: "iss", 3: "aud", 4: "exp", 5: "nbf", 6: "iat", 7: "cti", 10: "nonce",
        -70001: "loa", -70002: "evb", -70003: "txh", -70004: "trk", -70005: "use", -70006: "sub", -70007: "crf",
        -70008: "pol", -70009: "ret", -70010: "svc", -70014: "att", -70015: "trm",
    }  # fmt: skip


class Outcome(StrEnum):
    """All that a verifier ever says. Only the first three are words for a genuine token."""

    GENUINE_NOW = "genuine_now"
    GENUINE_PAST = "genuine_past"
    OTHER_AUDIENCE = "genuine_other_audience"
    UNKNOWN_ISSUER = "unknown_issuer"
    ALTERED = "altered"
    UNSUPPORTED_VERSION = "unsupported_version"
    CANNOT_CHECK = "cannot_check"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`claims` is None unless the signature holds. `reason` is a short English clause for logs and technicians."""

    outcome: Outcome
    reason: str
    claims: Claims | None = None


def sign(claims: Claims, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The token: the registry's signature over `claims`.

    Raises:
        MessageRefusedError: a claim out of its bounds.
    """
    return cose.sign(encode(claims), key, TYPE)


def verify(token: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey], *, audience: str | None, at: int) -> Verdict:
    """Judge `token` against the registry keys that the caller trusts, by key id, at the time `at` (Unix seconds).

    Never raises for anything in `token`. Without `audience` a genuine token is `OTHER_AUDIENCE`: a verifier that does
    not say for whom it asks is not the one relying party.
    """
    if not token:
        return Verdict(Outcome.CANNOT_CHECK, "no token")
    if len(token) > MAX_BYTES:
        return Verdict(Outcome.ALTERED, f"longer than {MAX_BYTES} bytes")
    try:
        envelope = cose.parse(token)
    except cbor.CborRefusedError as exc:
        return Verdict(Outcome.ALTERED, exc.reason)
    if not envelope.type.startswith(TYPE_FAMILY):
        return Verdict(Outcome.ALTERED, "not an assertion")
    if not keys:
        return Verdict(Outcome.CANNOT_CHECK, "no registry key to check with")
    key = keys.get(envelope.kid)
    if key is None:
        return Verdict(Outcome.UNKNOWN_ISSUER, "signed by a key that is not on the list")
    if envelope.alg != cose.ES256 and envelope.type != TYPE:
        return Verdict(Outcome.UNSUPPORTED_VERSION, "another signature algorithm in another version")
    try:
        cose.verify(envelope, key)
    except cose.SignatureRefusedError as exc:
        return Verdict(Outcome.ALTERED, str(exc))
    if envelope.type != TYPE:
        return Verdict(Outcome.UNSUPPORTED_VERSION, "a version that this verifier does not know")
    return _judge(envelope.payload, audience=audience, at=at)


def _judge(payload: bytes, *, audience: str | None, at: int) -> Verdict:
    """What a token with a valid signature is worth to `audience` at `at`."""
    try:
        claims = from_map(cbor.decode(payload, max_bytes=MAX_BYTES), Claims)
        code = tracking_code.parse(claims.trk)
    except (cbor.CborRefusedError, MessageRefusedError, tracking_code.TrackingCodeError) as exc:
        return Verdict(Outcome.CANNOT_CHECK, f"signed, but not well formed: {exc}")
    if code != claims.trk:
        return Verdict(Outcome.CANNOT_CHECK, "its tracking code is not in its one form", claims)
    if not loa.known_policy(claims.pol):
        return Verdict(Outcome.CANNOT_CHECK, "a policy that this verifier does not know", claims)
    if loa.level(claims.evb, claims.pol) < claims.loa:
        return Verdict(Outcome.CANNOT_CHECK, "its evidence does not reach its level", claims)
    if not claims.nbf <= claims.iat <= claims.exp <= claims.iat + USE_WITHIN_S:
        return Verdict(Outcome.CANNOT_CHECK, "its times contradict each other", claims)
    if audience is None or audience != claims.aud:
        return Verdict(Outcome.OTHER_AUDIENCE, "issued for another relying party", claims)
    if at < claims.nbf - CLOCK_SKEW_S:
        return Verdict(Outcome.CANNOT_CHECK, "issued in the future of this clock", claims)
    if at > claims.exp + CLOCK_SKEW_S:
        return Verdict(Outcome.GENUINE_PAST, "its transaction is over", claims)
    return Verdict(Outcome.GENUINE_NOW, "genuine, for this audience, within its time", claims)
