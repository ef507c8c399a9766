from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_server import ca
from fleet_server.errors import CsrRefusedError
from wire.topics import TopicRefusedError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CRL_URL = "https://127.0.0.1:1/crl"


def authority(name: int = 1) -> ca.Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return ca.found(key, name=name.to_bytes(8), serial=name.to_bytes(16), now=NOW)


def request(
    key: CertificateIssuerPrivateKeyTypes, *names: str, alternative: list[x509.GeneralName] | None = None
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternative is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def terminal_certificate(authority: ca.Authority, terminal: str = "t-1") -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return ca.issue_terminal(authority, key, terminal, serial=bytes(16), now=NOW, days=90, crl_url=CRL_URL)


def test_a_terminal_certificate_says_client_and_one_name_and_nothing_else() -> None:
    issuer = authority()
    certificate = terminal_certificate(issuer)
    extensions = certificate.extensions
    assert certificate.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "t-1")])
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("t-1")]
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert certificate.not_valid_after_utc == NOW + timedelta(days=90)
    certificate.verify_directly_issued_by(issuer.certificate)


def test_a_client_verifier_accepts_the_terminal_and_refuses_another_installations() -> None:
    ours, theirs = authority(1), authority(2)
    assert ours.certificate.subject != theirs.certificate.subject
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([ours.certificate]))
        .time(NOW + timedelta(days=1))
        .build_client_verifier()
    )
    verifier.verify(terminal_certificate(ours), [])
    with pytest.raises(verification.VerificationError):
        verifier.verify(terminal_certificate(theirs), [])
    server_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    server = ca.issue_server(ours, server_key, serial=bytes(16), now=NOW, hosts=("localhost", "127.0.0.1"))
    with pytest.raises(verification.VerificationError):
        verifier.verify(server, [])


def test_openssl_agrees_on_who_is_whose(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = {}
    for name in (1, 2):
        issuer = ca.found(
            ec.generate_private_key(ec.SECP256R1()), name=name.to_bytes(8), serial=name.to_bytes(16), now=now
        )
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        leaf = ca.issue_terminal(issuer, key, "t-1", serial=bytes(16), now=now, days=90, crl_url=CRL_URL)
        for what, certificate in (("ca", issuer.certificate), ("leaf", leaf)):
            files[what, name] = tmp_path / f"{what}{name}.pem"
            files[what, name].write_bytes(certificate.public_bytes(Encoding.PEM))

    def accepts(issuer: int, leaf: int) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(files["ca", issuer])]
        return subprocess.run([*command, str(files["leaf", leaf])], capture_output=True, check=False).returncode == 0

    assert [accepts(1, 1), accepts(2, 2), accepts(1, 2), accepts(2, 1)] == [True, True, False, False]


@pytest.mark.parametrize("name", ["", "T-1", "t.1", "t+1", "t#", "t/1", "-t", "t-", "server.ingest", "a" * 41, "t\0"])
def test_no_certificate_names_what_no_topic_may_hold(name: str) -> None:
    with pytest.raises(TopicRefusedError):
        terminal_certificate(authority(), name)


def test_no_certificate_outlives_the_authority() -> None:
    issuer = authority()
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    late = issuer.certificate.not_valid_after_utc - timedelta(days=1)
    certificate = ca.issue_terminal(issuer, key, "t-1", serial=bytes(16), now=late, days=90, crl_url=CRL_URL)
    assert certificate.not_valid_after_utc == issuer.certificate.not_valid_after_utc


def test_only_the_key_is_taken_from_a_request() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert ca.check_request(request(key, "t-1"), "t-1") == key.public_key()
    assert ca.check_request(request(key, "t-1", alternative=[x509.DNSName("t-1")]), "t-1") == key.public_key()


def test_requests_that_want_anything_else_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    unwanted = {
        "another name": request(key, "t-2"),
        "no name": request(key),
        "two names": request(key, "t-1", "t-1"),
        "an upper-case name": request(key, "T-1"),
        "another alternative name": request(key, "t-1", alternative=[x509.DNSName("t-2")]),
        "one alternative name too many": request(
            key, "t-1", alternative=[x509.DNSName("t-1"), x509.DNSName("localhost")]
        ),
        "an address": request(key, "t-1", alternative=[x509.UniformResourceIdentifier("https://t-1")]),
        "P-384": request(ec.generate_private_key(ec.SECP384R1()), "t-1"),
        "RSA": request(rsa.generate_private_key(65537, 2048), "t-1"),
        "trailing bytes": request(key, "t-1") + b"\0",
        "too long": request(key, "t-1") + bytes(ca.MAX_CSR_BYTES),
    }
    assert [what for what, der in unwanted.items() if not refused(der)] == []


def refused(der: bytes) -> bool:
    try:
        ca.check_request(der, "t-1")
    except CsrRefusedError:
        return True
    return False


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Proof of possession: the signature of one request under another's key."""
    der = bytearray(request(ec.generate_private_key(ec.SECP256R1()), "t-1"))
    der[-1] ^= 1
    with pytest.raises(CsrRefusedError):
        ca.check_request(bytes(der), "t-1")


VALID_KEY = ec.derive_private_key(7, ec.SECP256R1())
VALID = request(VALID_KEY, "t-1", alternative=[x509.DNSName("t-1")])


@pytest.mark.filterwarnings("ignore:Attribute's length must be")
@example(7, 1)  # another version
@example(19, 15)  # a name of a type that names cannot have
@given(st.integers(0, len(VALID) - 1), st.integers(1, 255))
def test_one_changed_byte_is_refused_or_changes_nothing_that_is_taken(at: int, change: int) -> None:
    changed = bytearray(VALID)
    changed[at] ^= change
    try:
        key = ca.check_request(bytes(changed), "t-1")
    except CsrRefusedError:
        return
    assert key == VALID_KEY.public_key()


@given(st.binary(max_size=300))
def test_rubbish_is_not_a_request(rubbish: bytes) -> None:
    with pytest.raises(CsrRefusedError):
        ca.check_request(rubbish, "t-1")


def test_the_revocation_list_names_the_revoked_and_lives_as_long_as_the_authority() -> None:
    issuer = authority()
    certificate = terminal_certificate(issuer)
    crl = ca.revocation_list(issuer, now=NOW, number=2, revoked=[(certificate.serial_number, NOW)])
    public = issuer.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(public)
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    assert crl.next_update_utc == issuer.certificate.not_valid_after_utc
