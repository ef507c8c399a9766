"""A small certificate authority for one simulated party's own TLS. It has nothing to do with terminals or cards."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.simulators.party import files

_CA_DAYS = 3650
_LEAF_DAYS = 90
_BACKDATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority that lives in `directory`; `certificate` is the PEM path that peers are given."""

    directory: Path
    certificate: Path
    key: ec.EllipticCurvePrivateKey


def authority(directory: Path, name: str, *, now_ms: int) -> Authority:
    """The authority of `directory`, made the first time. Its private key stays there, readable by its owner only.

    Raises:
        files.PartyFileError: what is in the directory is not an authority.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = files.private_key(directory / "ca-key.pem")
    path = directory / "ca.pem"
    if not path.exists():
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), key.public_key(), now_ms=now_ms, days=_CA_DAYS)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=False, issue=True), critical=True)
            .sign(key, SHA256())
        )
        files.replace(path, certificate.public_bytes(Encoding.PEM))
    return Authority(directory, path, key)


def server(ca: Authority, path: Path, hosts: list[str], *, now_ms: int) -> Path:
    """A fresh server certificate with its key in one PEM file at `path`, good for every name or address in `hosts`."""
    return _leaf(ca, path, hosts, ExtendedKeyUsageOID.SERVER_AUTH, now_ms=now_ms)


def client(ca: Authority, path: Path, name: str, *, now_ms: int) -> Path:
    """A fresh client certificate with its key in one PEM file at `path`."""
    return _leaf(ca, path, [name], ExtendedKeyUsageOID.CLIENT_AUTH, now_ms=now_ms)


def _leaf(ca: Authority, path: Path, names: list[str], purpose: x509.ObjectIdentifier, *, now_ms: int) -> Path:
    issuer = files.certificates(ca.certificate)[0]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = _builder(subject, issuer.subject, key.public_key(), ca.key.public_key(), now_ms=now_ms, days=_LEAF_DAYS)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, issue=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .sign(ca.key, SHA256())
    )
    files.replace(path, files.private_pem(key) + certificate.public_bytes(Encoding.PEM), mode=0o600)
    return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    *,
    now_ms: int,
    days: int,
) -> x509.CertificateBuilder:
    """What every certificate here has: names, key, serial, validity and the two key identifiers of RFC 5280."""
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, sign: bool, issue: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=issue,
        crl_sign=issue,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
