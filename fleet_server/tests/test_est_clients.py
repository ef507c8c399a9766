"""Enrolment with clients that are not ours: strongSwan's pki, curl with openssl; and many at once."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from fleet_server.tests.real_fleet import RealFleet, request, until

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path_factory.mktemp("est") / "fleet")
    try:
        fleet.start("est")
        yield fleet
    finally:
        fleet.stop_all()


def run(*command: str, cwd: Path, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False, cwd=cwd, input=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.skipif(shutil.which("pki") is None, reason="needs strongswan-pki and libstrongswan-extra-plugins")
def test_strongswan_fetches_the_ca_and_enrols_and_asking_again_gives_the_same(fleet: RealFleet, tmp_path: Path) -> None:
    code, url = fleet.code("sw-1"), f"https://localhost:{fleet.config.est.port}"
    ca = str(fleet.config.layout.ca_certificate)
    (tmp_path / "k").write_bytes(
        run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem", cwd=tmp_path)
    )
    (tmp_path / "r").write_bytes(
        run("pki", "--req", "--in", "k", "--type", "ecdsa", "--dn", "CN=sw-1", "--outform", "pem", cwd=tmp_path)
    )
    run("pki", "--estca", "--url", url, "--cacert", ca, "--caout", "ca", "--outform", "pem", "--force", cwd=tmp_path)
    enrol = (
        "pki",
        "--est",
        "--url",
        url,
        "--in",
        "r",
        "--cacert",
        ca,
        "--userpass",
        f"sw-1:{code}",
        "--outform",
        "pem",
    )
    first = run(*enrol, cwd=tmp_path)
    assert x509.load_pem_x509_certificate(first).subject.rfc4514_string() == "CN=sw-1"
    assert run(*enrol, cwd=tmp_path) == first


def test_curl_and_openssl_enrol(fleet: RealFleet, tmp_path: Path) -> None:
    code, ca = fleet.code("curl-1"), str(fleet.config.layout.ca_certificate)
    new = ("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new, "-keyout", "k", "-subj", "/CN=curl-1", "-outform", "der", "-out", "r", cwd=tmp_path)
    wrapped = run("openssl", "base64", "-in", "r", cwd=tmp_path)
    curl = ("curl", "-sf", "--cacert", ca, "-u", f"curl-1:{code}", "-H", "Content-Type: application/pkcs10")
    body = run(*curl, "--data-binary", "@-", f"{fleet.est_url}/simpleenroll", cwd=tmp_path, stdin=wrapped)
    assert b"\n" not in body
    (tmp_path / "p7").write_bytes(base64.b64decode(body))
    (tmp_path / "c").write_bytes(run("openssl", "pkcs7", "-inform", "der", "-in", "p7", "-print_certs", cwd=tmp_path))
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca, "c", cwd=tmp_path)


def test_fifty_at_once_with_one_code_get_one_certificate_over_the_network(fleet: RealFleet) -> None:
    code = fleet.code("many-1")
    requests = [request(ec.generate_private_key(ec.SECP256R1()), "many-1") for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda csr: fleet.ask("many-1", code, csr), requests))
    assert sorted({answer.status_code for answer in answers} - {429}) == [200, 401]
    good = [answer for answer in answers if answer.status_code == 200]
    assert len(good) == 1
    assert len(pkcs7.load_der_pkcs7_certificates(base64.b64decode(good[0].content))) == 1


def test_nothing_that_a_stranger_says_is_answered_differently(fleet: RealFleet) -> None:
    fleet.code("known-1")
    csr = request(ec.generate_private_key(ec.SECP256R1()), "known-1")
    wrong, unknown = (
        ask_when_allowed(fleet, serial, code, csr)
        for serial, code in (("known-1", "2222-2222-2222-2222"), ("nobody-1", "x"))
    )
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    without_date = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in (wrong, unknown)]
    assert without_date[0] == without_date[1]
    assert oct(fleet.config.layout.ca_key.stat().st_mode & 0o777) == "0o600"
    assert fleet.data_dir.stat().st_mode & 0o077 == 0


def ask_when_allowed(fleet: RealFleet, serial: str, code: str, csr: bytes) -> httpx.Response:
    """The other tests may have used up this second's attempts."""
    answers = [fleet.ask(serial, code, csr)]
    until(lambda: answers[-1].status_code != 429 or bool(answers.append(fleet.ask(serial, code, csr))))  # type: ignore[func-returns-value] # asks again
    return answers[-1]
