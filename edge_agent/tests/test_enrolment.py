"""Enrolment believes nobody but the fleet that the technician brought, and tells nobody else the code."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from edge_agent import enrolment
from edge_agent.enrolment import EnrolmentRequest, enrol
from edge_agent.errors import EnrolmentError

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A fleet CA of the same name as every other one here."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.issue("fleet", self.key.public_key(), ca=True)

    def issue(self, common: str, key: ec.EllipticCurvePublicKey, *, ca: bool = False) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(name(common)).issuer_name(name("fleet")).public_key(key)
        builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=90))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(self.key, SHA256())


def request(tmp_path: Path, authority: Authority, est_url: str = "https://est") -> EnrolmentRequest:
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return EnrolmentRequest("t-1", "CODE", est_url, tmp_path / "ca.pem", tmp_path / "t.key", tmp_path / "t.pem")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[x509.Certificate]:
    """What the enrolment server answers with, instead of asking one."""
    given: list[x509.Certificate] = []

    async def answer(_: EnrolmentRequest, __: bytes) -> bytes:
        return base64.b64encode(pkcs7.serialize_certificates(given, Encoding.DER))

    monkeypatch.setattr(enrolment, "_simple_enroll", answer)
    return given


def own_key(tmp_path: Path) -> ec.EllipticCurvePublicKey:
    return enrolment._own_key(tmp_path / "t.key").public_key()


async def test_a_certificate_for_this_key_from_this_fleet_is_written(
    tmp_path: Path, answers: list[x509.Certificate]
) -> None:
    fleet = Authority()
    answers.append(fleet.issue("t-1", own_key(tmp_path)))
    certificate = await enrol(request(tmp_path, fleet))
    assert x509.load_pem_x509_certificate((tmp_path / "t.pem").read_bytes()) == certificate
    assert stat.S_IMODE((tmp_path / "t.key").stat().st_mode) == 0o600


async def test_a_certificate_of_another_fleet_of_another_key_or_of_another_terminal_is_not_written(
    tmp_path: Path, answers: list[x509.Certificate]
) -> None:
    fleet, other = Authority(), Authority()
    key = own_key(tmp_path)
    for wrong in (
        other.issue("t-1", key),
        fleet.issue("t-1", other.key.public_key()),
        fleet.issue("t-2", key),
    ):
        answers[:] = [wrong]
        with pytest.raises(EnrolmentError):
            await enrol(request(tmp_path, fleet))
    assert not (tmp_path / "t.pem").exists()


async def test_the_code_is_never_told_to_a_server_without_tls(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="https"):
        await enrol(request(tmp_path, Authority(), "http://127.0.0.1:9"))


async def test_a_server_that_is_away_is_a_sentence_and_the_key_stays_for_the_next_try(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="cannot be reached"):
        await enrol(request(tmp_path, Authority(), "https://127.0.0.1:9"))
    first = own_key(tmp_path)
    with pytest.raises(EnrolmentError):
        await enrol(request(tmp_path, Authority(), "https://127.0.0.1:9"))
    assert own_key(tmp_path) == first


async def test_a_damaged_key_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.key").write_text("rubbish")
    with pytest.raises(EnrolmentError, match="key file"):
        await enrol(request(tmp_path, Authority()))
