"""How a party judges what a terminal sent, before it looks at anything inside: bytes, trust and time in, a value out.

Exchange and registry both do all of this. Neither takes the other's word for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire import cbor, cose, fields, topics
from wire.inquiry import MAX_ENVELOPE_BYTES, TRACE_TYPE, Envelope, TraceHeader

FRESH_WITHIN_MS: Final = 120_000
"""How far a header's time may lie from the party's own clock, either way."""

_FOREIGN = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for a hostile certificate; some of it only when a field is first looked at."""


class EnvelopeRefusedError(Exception):
    """The envelope is not a fresh request of a terminal that we know. `reason` holds nothing of its content.

    `trace_id` is the header's, if it was readable (it need not be authentic), so that the refusal can name the request.
    """

    def __init__(self, reason: str, trace_id: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace_id = trace_id


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope whose header is authentic, fresh and bound to `body`. The body's own signature is not checked yet."""

    header: TraceHeader
    body: bytes
    key: ec.EllipticCurvePublicKey
    thumbprint: bytes
    """Of the terminal's key, 32 bytes."""


def open_envelope(data: bytes, authorities: Sequence[x509.Certificate], *, now_ms: int) -> Opened:
    """Check `data` against the terminal authorities at `now_ms`, without looking into its body.

    Raises:
        EnvelopeRefusedError: malformed, another authority, not valid now, not a client certificate, a signature that
            does not hold, a body that is not the header's, or a header that is not of this time.
    """
    try:
        envelope = fields.decode(data, Envelope, max_bytes=MAX_ENVELOPE_BYTES)
        signed = cose.parse(envelope.header)
        header = fields.decode(signed.payload, TraceHeader)
    except (fields.MessageRefusedError, cbor.CborRefusedError) as exc:
        raise EnvelopeRefusedError(f"malformed: {exc.reason}") from exc
    try:
        key = terminal_key(envelope.certificate, authorities, now_ms=now_ms)
        cose.open_signed(envelope.header, key, TRACE_TYPE)
    except (EnvelopeRefusedError, cose.SignatureRefusedError, cbor.CborRefusedError) as exc:
        raise EnvelopeRefusedError(str(exc), header.trace_id) from exc
    if hashlib.sha256(envelope.body).digest() != header.body_hash:
        raise EnvelopeRefusedError("the body is not the one that the header names", header.trace_id)
    if header.size_bucket != size_bucket(envelope.body):
        raise EnvelopeRefusedError("the header names another size", header.trace_id)
    if abs(header.at_ms - now_ms) > FRESH_WITHIN_MS:
        raise EnvelopeRefusedError("the header is not of this time", header.trace_id)
    return Opened(header, envelope.body, key, cose.thumbprint(key))


def size_bucket(body: bytes) -> int:
    """Bytes rounded up to the next KiB, in KiB."""
    return -(-len(body) // 1024)


def terminal_key(der: bytes, authorities: Sequence[x509.Certificate], *, now_ms: int) -> ec.EllipticCurvePublicKey:
    """The key of a terminal's certificate: issued by one of `authorities`, valid now, for clientAuth, on P-256.

    The fleet's authority certifies its own servers' clients too; only a subject that can name a terminal is one.

    Raises:
        EnvelopeRefusedError: any of that does not hold.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        _issued_by_one_of(certificate, authorities)
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise EnvelopeRefusedError("the terminal's certificate is not valid now")
        extensions = certificate.extensions
        if ExtendedKeyUsageOID.CLIENT_AUTH not in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
            raise EnvelopeRefusedError("the terminal's certificate is not for clients")
        if any(e.value.ca for e in extensions if isinstance(e.value, x509.BasicConstraints)):
            raise EnvelopeRefusedError("an authority's certificate is no terminal's")
        topics.terminal_id(_common_name(certificate))
        key = certificate.public_key()
    except topics.TopicRefusedError as exc:
        raise EnvelopeRefusedError("the certificate's subject is no terminal") from exc
    except x509.ExtensionNotFound as exc:
        raise EnvelopeRefusedError("the terminal's certificate names no purpose") from exc
    except _FOREIGN as exc:
        raise EnvelopeRefusedError(f"not a certificate: {type(exc).__name__}") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnvelopeRefusedError("the terminal's key is not on P-256")
    return key


def _common_name(certificate: x509.Certificate) -> str:
    """The subject's one common name; empty when it has none or several."""
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[0] if len(names) == 1 else ""


def _issued_by_one_of(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    for candidate in authorities:
        try:
            certificate.verify_directly_issued_by(candidate)
        except _FOREIGN:
            continue
        return
    raise EnvelopeRefusedError("the terminal's certificate is of another authority")
