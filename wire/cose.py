"""The one signed envelope: COSE_Sign1 (RFC 9052 section 4.2) with ES256 on P-256 and nothing optional.

Tag 18; protected header exactly {1: -7, 4: kid, 16: type} (RFC 9596 for 16); empty unprotected header; payload in
place; low-S signatures only, because (r, n-s) verifies too and a token must have one form. `type` names the message
and its version, so a signature made for one purpose can never be read as another (domain separation).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire import cbor

ES256 = -7
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_TAG_SIGN1 = b"\xd2"
MAX_SIGN1_BYTES = 256 * 1024
_MAX_PROTECTED_BYTES = 512


class SignatureRefusedError(Exception):
    """The envelope is well formed, but its signature is not of the key that it was held against."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed, *not yet verified* envelope. `alg` is what the signer claims; `verify` accepts ES256 only."""

    alg: int
    kid: bytes
    type: str
    payload: bytes
    protected: bytes
    signature: bytes


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """16 bytes: the head of SHA-256 over the SubjectPublicKeyInfo. A hint for finding a key, never a proof."""
    return thumbprint(key)[:16]


def thumbprint(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 over the DER SubjectPublicKeyInfo, 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey, message_type: str) -> bytes:
    """Sign `payload` as `message_type` (for example ``govah-assertion;v=1``).

    Raises:
        ValueError: the key is not on P-256.
        cbor.CborRefusedError: the envelope would be one that `parse` refuses.
    """
    if not _is_p256(key):
        raise ValueError("ES256 here means a key on P-256")
    protected = cbor.encode({1: ES256, 4: key_id(key.public_key()), 16: message_type})
    r, s = utils.decode_dss_signature(key.sign(_to_be_signed(protected, payload), ec.ECDSA(SHA256())))
    signature = raw_signature(r, min(s, _ORDER - s))
    envelope = _TAG_SIGN1 + cbor.encode([protected, {}, payload, signature])
    if len(envelope) > MAX_SIGN1_BYTES or len(protected) > _MAX_PROTECTED_BYTES:
        raise cbor.CborRefusedError("too long to be read again")
    return envelope


def parse(data: bytes) -> Sign1:
    """Take the envelope apart without judging it.

    Raises:
        cbor.CborRefusedError: not this profile of COSE_Sign1.
    """
    if len(data) > MAX_SIGN1_BYTES:
        raise cbor.CborRefusedError(f"longer than {MAX_SIGN1_BYTES} bytes")
    if data[:1] != _TAG_SIGN1:
        raise cbor.CborRefusedError("not tagged COSE_Sign1")
    match cbor.decode(data[1:], max_bytes=MAX_SIGN1_BYTES):
        case [bytes() as protected, {**unprotected}, bytes() as payload, bytes() as signature] if not unprotected:
            pass
        case _:
            raise cbor.CborRefusedError("not a COSE_Sign1 array with an empty unprotected header")
    match cbor.decode(protected, max_bytes=_MAX_PROTECTED_BYTES):
        case {1: int() as alg, 4: bytes() as kid, 16: str() as message_type, **others} if not (
            others or isinstance(alg, bool)
        ):
            return Sign1(alg, kid, message_type, payload, protected, signature)
        case _:
            raise cbor.CborRefusedError("protected header is not {alg, kid, type}")


def verify(envelope: Sign1, key: ec.EllipticCurvePublicKey) -> None:
    """Check the signature of a parsed envelope under `key`.

    Raises:
        SignatureRefusedError: another algorithm, another length, a high S, a key that is not on P-256, or a signature
            of another key or content.
    """
    if not _is_p256(key):
        raise SignatureRefusedError("not a key on P-256")
    if envelope.alg != ES256 or len(envelope.signature) != 64:
        raise SignatureRefusedError("not an ES256 signature")
    r = int.from_bytes(envelope.signature[:32])
    s = int.from_bytes(envelope.signature[32:])
    if not 0 < s <= _ORDER // 2 or not 0 < r < _ORDER:
        raise SignatureRefusedError("signature is not in its one permitted form")
    try:
        key.verify(
            utils.encode_dss_signature(r, s),
            _to_be_signed(envelope.protected, envelope.payload),
            ec.ECDSA(SHA256()),
        )
    except InvalidSignature as exc:
        raise SignatureRefusedError("signature does not match") from exc


def open_signed(data: bytes, key: ec.EllipticCurvePublicKey, message_type: str) -> bytes:
    """The payload of an envelope that must be of `message_type` and signed by `key`.

    Raises:
        cbor.CborRefusedError: not an envelope of this profile and type.
        SignatureRefusedError: the signature is not of `key`.
    """
    envelope = parse(data)
    if envelope.type != message_type:
        raise cbor.CborRefusedError("another message type")
    verify(envelope, key)
    return envelope.payload


def raw_signature(r: int, s: int) -> bytes:
    """r and s as 32 big-endian bytes each (RFC 9053 section 2.1)."""
    return r.to_bytes(32) + s.to_bytes(32)


def _is_p256(key: object) -> bool:
    """Keys come out of certificates, so the declared type is only a hope: RSA and other curves arrive here too."""
    return isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and isinstance(
        key.curve, ec.SECP256R1
    )


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return bytes(cbor2.dumps(["Signature1", protected, b"", payload]))
