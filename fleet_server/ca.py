"""The fleet's certificate authority (X.509, RFC 5280): what is signed, and what a request must look like.

Keys, time, serial numbers and chance are arguments; files are `installation.py`'s. One authority of depth 0 signs the
terminals' certificates (client), our own servers' and the ingest's. Each installation's authority has its own name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_server.errors import CsrRefusedError
from wire.topics import terminal_id

SERIAL_BYTES: Final = 16
NAME_BYTES: Final = 8
MAX_CSR_BYTES: Final = 8 * 1024
CA_LIFE: Final = timedelta(days=3653)
SERVER_LIFE: Final = timedelta(days=825)
CLOCK_SKEW: Final = timedelta(minutes=10)
"""Certificates begin this much before they are made: a terminal's clock may be a little late (test S39)."""
INGEST_NAME: Final = "server.ingest"
"""The ingest's name at the broker. The dot makes sure that no terminal can ever have it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate and the key that sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def found(key: ec.EllipticCurvePrivateKey, *, name: bytes, serial: bytes, now: datetime) -> Authority:
    """A new self-signed authority.

    It carries no name constraints: RFC 5280 section 4.2.1.10 wants them critical, Debian's strongSwan client refuses a
    CA with that extension, and a terminal id has no domain to be constrained to. Path length 0 and the extended key
    usage of each certificate bound what it can sign.

    Args:
        key: P-256.
        name: `NAME_BYTES` random bytes; they make the subject unique among installations.
        serial: `SERIAL_BYTES` random bytes.
        now: aware UTC time.
    """
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Govah fleet"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Govah fleet CA {name.hex()}"),
        ]
    )
    ours = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), serial=serial, now=now, life=CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours), critical=False)
        .sign(key, SHA256())
    )
    return Authority(certificate, key)


def check_request(der: bytes, terminal: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request (PKCS #10, RFC 2986) from `terminal`, if the request may be granted.

    Nothing but the key is ever taken from a request.

    Raises:
        CsrRefusedError: too long, not PKCS #10, not P-256, not signed by its own key, or another name than `terminal`.
    """
    if len(der) > MAX_CSR_BYTES:
        raise CsrRefusedError(f"request longer than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CsrRefusedError("the key must be on the curve P-256")
        signed = request.is_signature_valid
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        alternative = _alternative_names(request)
    except _NOT_A_REQUEST as exc:
        raise CsrRefusedError("not a PKCS #10 request") from exc
    if not signed:
        raise CsrRefusedError("the request is not signed by its own key")
    if [name.value for name in names] != [terminal]:
        raise CsrRefusedError("the common name must be the terminal's serial, once")
    if alternative and alternative != [x509.DNSName(terminal)]:
        raise CsrRefusedError("alternative names must be absent or exactly the terminal's serial")
    return key


_NOT_A_REQUEST: Final = (
    ValueError,
    TypeError,  # an attribute of the subject with a type that it cannot have
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""All that the parser is known to raise for bytes that it does not like (a fuzz test holds the list)."""


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except x509.DuplicateExtension as exc:
        raise CsrRefusedError("an extension occurs twice") from exc
    return list(extension.value)


def issue_terminal(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    terminal: str,
    *,
    serial: bytes,
    now: datetime,
    days: int,
    crl_url: str,
) -> x509.Certificate:
    """A terminal's certificate: CN = DNS SAN = `terminal`, client authentication only.

    Raises:
        wire.topics.TopicRefusedError: `terminal` may not name a terminal.
    """
    return _client(
        authority, key, terminal_id(terminal), serial=serial, now=now, life=timedelta(days=days), crl_url=crl_url
    )


def issue_ingest(
    authority: Authority, key: ec.EllipticCurvePublicKey, *, serial: bytes, now: datetime, crl_url: str
) -> x509.Certificate:
    """The ingest's own client certificate, `INGEST_NAME`."""
    return _client(authority, key, INGEST_NAME, serial=serial, now=now, life=SERVER_LIFE, crl_url=crl_url)


def issue_server(
    authority: Authority, key: ec.EllipticCurvePublicKey, *, serial: bytes, now: datetime, hosts: Sequence[str]
) -> x509.Certificate:
    """A certificate for one of our servers, reachable as any of `hosts` (names and addresses)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    return (
        _leaf(authority, key, name, serial=serial, now=now, life=SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, SHA256())
    )


def revocation_list(
    authority: Authority, *, now: datetime, number: int, revoked: Sequence[tuple[int, datetime]]
) -> x509.CertificateRevocationList:
    """The CRL over (serial number, since when). Valid as long as the authority: an expired CRL would lock out every
    terminal (Mosquitto refuses all clients then), so its age is a matter for monitoring, never for the broker."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key(authority), critical=False)
    )
    for serial_number, since in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, SHA256())


def _client(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    name: str,
    *,
    serial: bytes,
    now: datetime,
    life: timedelta,
    crl_url: str,
) -> x509.Certificate:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
    return (
        _leaf(
            authority,
            key,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            serial=serial,
            now=now,
            life=life,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .sign(authority.key, SHA256())
    )


def _leaf(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    *,
    serial: bytes,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    life = min(life, authority.certificate.not_valid_after_utc - now)
    return (
        _builder(subject, authority.certificate.subject, key, serial=serial, now=now, life=life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(_authority_key(authority), critical=False)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    serial: bytes,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    if len(serial) != SERIAL_BYTES:
        raise ValueError(f"a serial number needs {SERIAL_BYTES} random bytes")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(int.from_bytes(b"\x01" + serial))  # positive, and never zero (RFC 5280 section 4.1.2.2)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(authority: Authority) -> x509.AuthorityKeyIdentifier:
    identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _general_name(host: str) -> x509.GeneralName:
    address = _address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)
