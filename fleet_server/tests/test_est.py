from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from structlog.testing import capture_logs

from fleet_server import db, enrolment, est, installation
from fleet_server.est import create_est_app
from fleet_server.tests.conftest import Ids
from fleet_server.tests.test_ca import request
from fleet_server.tests.test_config import some_config

CODE = "2345-6789-ABCD-EFGH"
ENROLL = "/.well-known/est/simpleenroll"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The listener's application with ``t-1`` listed under `CODE`."""
    config = some_config(tmp_path / "fleet")
    now = datetime.now(UTC)
    installation.create(config, now=now, chance=lambda count: b"\1" * count)
    engine = db.open_engine(config.database)
    with db.writing(engine) as connection:
        now_ms = int(now.timestamp() * 1000)
        enrolment.add_terminal(connection, "t-1", code=CODE, now_ms=now_ms, life_s=3600, new_id=Ids())
    transport = httpx.ASGITransport(create_est_app(config, engine))
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        yield client
    engine.dispose()


def body() -> bytes:
    return base64.b64encode(request(ec.generate_private_key(ec.SECP256R1()), "t-1"))


def certificates(answer: httpx.Response) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))


async def test_ca_certificates_are_one_line_of_base64_and_csr_attributes_are_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/.well-known/est/cacerts")
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert b"\n" not in answer.content
    assert len(certificates(answer)) == 1
    assert (await client.get("/.well-known/est/csrattrs")).status_code == 204


async def test_serial_and_code_enrol(client: httpx.AsyncClient) -> None:
    answer = await client.post(ENROLL, auth=("t-1", CODE), content=body())
    assert answer.status_code == 200
    (certificate,) = certificates(answer)
    assert certificate.subject.rfc4514_string() == "CN=t-1"


async def test_wrapped_base64_is_read_too(client: httpx.AsyncClient) -> None:
    text = body()
    wrapped = b"\r\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + b"\r\n"
    assert (await client.post(ENROLL, auth=("t-1", CODE), content=wrapped)).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!", "Basic dC0x", "Bearer dC0x", "Basic /zo=", "Basic " + "A" * 5000, "Basic Og=="]
)
async def test_without_a_readable_credential_the_answer_is_401_and_says_how(
    client: httpx.AsyncClient, header: str
) -> None:
    answer = await client.post(ENROLL, headers={"Authorization": header} if header else {}, content=body())
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_bad_request_of_a_good_code_is_400(client: httpx.AsyncClient) -> None:
    for content in (b"", b"!!!", base64.b64encode(b"no"), bytes(20_000)):
        assert (await client.post(ENROLL, auth=("t-1", CODE), content=content)).status_code == 400


async def test_a_guesser_is_told_to_wait_but_never_keeps_out_who_has_the_code(client: httpx.AsyncClient) -> None:
    for _ in range(10):
        assert (await client.post(ENROLL, auth=("t-1", "wrong"), content=body())).status_code == 401
    answer = await client.post(ENROLL, auth=("t-1", "wrong"), content=body())
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 500
    assert (await client.post(ENROLL, auth=("t-1", CODE), content=body())).status_code == 200


async def test_a_body_that_does_not_come_in_time_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"MII"
        await asyncio.Event().wait()

    monkeypatch.setattr(est, "BODY_WITHIN_S", 0.0)
    answer = await client.post(ENROLL, auth=("t-1", CODE), content=never())
    assert (answer.status_code, answer.text) == (400, "the body did not come in time\n")


async def test_renewal_says_that_it_does_not_exist_yet(client: httpx.AsyncClient) -> None:
    assert (await client.post("/.well-known/est/simplereenroll")).status_code == 501


async def test_the_revocation_list_is_served(client: httpx.AsyncClient) -> None:
    assert x509.load_der_x509_crl((await client.get("/crl")).content).next_update_utc is not None


async def test_neither_serial_nor_code_is_logged(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.post(ENROLL, auth=("secret-serial", "secret-code"), content=body())
    assert logs
    assert "secret" not in str(logs)
