"""Enrolment: a key made here, a certificate from the fleet server by EST simpleenroll (RFC 7030 section 4.2).

The only file that talks to the EST server. The private key is written before the request leaves and never leaves
the terminal; the same key is used again when an answer was lost, so a repeated request gets the same certificate.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from edge_agent.errors import EnrolmentError

ANSWER_MAX_BYTES: Final = 64 * 1024
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """`est_url` is the base, without ``/.well-known/est``; `ca` is the fleet CA that the technician brings."""

    terminal: str
    code: str
    est_url: str
    ca: Path
    key: Path
    certificate: Path


async def enrol(request: EnrolmentRequest) -> x509.Certificate:
    """Make a key if there is none, ask for a certificate, check it, write it.

    Raises:
        EnrolmentError: with a sentence for the technician.
    """
    key = _own_key(request.key)
    answer = await _simple_enroll(request, _signing_request(request.terminal, key))
    certificate = _issued(answer, request.terminal, key, _authorities(request.ca))
    _write(request.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate


def _own_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as exc:
            raise EnrolmentError("the key file cannot be read; move it away to make a new key") from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EnrolmentError("the key file holds another kind of key")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem, 0o600)
    return key


def _signing_request(terminal: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, terminal)])
    names = x509.SubjectAlternativeName([x509.DNSName(terminal)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    return csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def _simple_enroll(request: EnrolmentRequest, csr: bytes) -> bytes:
    if not request.est_url.startswith("https://"):
        raise EnrolmentError("the enrolment server's address must begin with https://: it is told a secret code")
    try:
        tls = ssl.create_default_context(cafile=str(request.ca))
        async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=TIMEOUT_S) as client:
            answer = await client.post(
                f"{request.est_url}/.well-known/est/simpleenroll",
                content=base64.b64encode(csr),
                headers={"content-type": "application/pkcs10"},
                auth=(request.terminal, request.code),
            )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
        raise EnrolmentError(f"the enrolment server cannot be reached: {type(exc).__name__}") from exc
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise EnrolmentError("the one-time code is wrong, used or expired; ask for a new one")
    if answer.status_code != httpx.codes.OK or len(answer.content) > ANSWER_MAX_BYTES:
        raise EnrolmentError(f"the enrolment server refused: HTTP {answer.status_code}")
    return answer.content


def _authorities(ca: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(ca.read_bytes())
    except (OSError, ValueError) as exc:
        raise EnrolmentError(f"the fleet's CA file cannot be read: {exc}") from exc


def _issued(
    answer: bytes, terminal: str, key: ec.EllipticCurvePrivateKey, authorities: list[x509.Certificate]
) -> x509.Certificate:
    """The one certificate in `answer` that is for this terminal and this key, and of an authority that we brought."""
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    except (ValueError, binascii.Error) as exc:
        raise EnrolmentError("the enrolment server's answer is not a certificate") from exc
    for certificate in certificates:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ours = [name.value for name in names] == [terminal] and certificate.public_key() == key.public_key()
        if ours and any(_issued_by(certificate, authority) for authority in authorities):
            return certificate
    raise EnrolmentError("the enrolment server certified another key or another terminal, or is another fleet's")


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and on the disk when it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
