"""Both programs as they are started, over TLS: one inquiry from end to end, and who is let in where."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge_agent.errors import InquiryError
from edge_agent.inquiry import Challenge, Credentials, Inquiry, Route
from edge_agent.tests.doors import proofs
from tools.simulators import issuer
from tools.simulators.party import tls
from tools.simulators.registry.tests.world import AUDIENCE, BASIS, Terminal
from wire import assertion, cose
from wire.failures import Failure

pytestmark = pytest.mark.bench

_STOP_WITHIN_S = 15
CARD = issuer.personalise(42)


@contextlib.contextmanager
def started(*arguments: str | Path) -> Iterator[dict[str, Any]]:
    """A `govah sim` process; its ready line. It must end by itself, with status 0, when told to."""
    command = [sys.executable, "-m", "tools", "sim", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "it ended before it was ready"
            yield json.loads(line)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(_STOP_WITHIN_S)
        assert status == 0


@pytest.fixture(scope="module")
def terminal_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.authority(tmp_path_factory.mktemp("fleet-ca"), "SIMULATED fleet", now_ms=now_ms())


@pytest.fixture(scope="module")
def parties(
    tmp_path_factory: pytest.TempPathFactory, terminal_ca: tls.Authority
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The ready lines of registry and exchange."""
    data = tmp_path_factory.mktemp("parties")
    trust = ("--terminal-ca", terminal_ca.certificate, "--fast")
    with (
        started("registry", "--data", data / "registry", *trust) as registry,
        started(
            "nix", "--data", data / "nix", "--registry", registry["url"], "--registry-ca", registry["ca"], *trust
        ) as nix,
    ):
        yield registry, nix


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def public_key(path: str) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(Path(path).read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def https(ready: dict[str, Any]) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=ssl.create_default_context(cafile=ready["ca"]), trust_env=False)


def door(parties: tuple[dict[str, Any], dict[str, Any]], terminal: Terminal, ca: str | None = None) -> Inquiry:
    registry, nix = parties
    return Inquiry(
        Route(nix["url"], Path(ca or nix["ca"]), "demo", attempt_s=8),
        Credentials(terminal.key, terminal.certificate, public_key(registry["registry_key"]), public_key(nix["key"])),
        now_ms=now_ms,
        chance=secrets.token_bytes,
    )


async def opened(inquiry: Inquiry, txh: bytes) -> Challenge:
    return await inquiry.open_inquiry(
        audience=AUDIENCE,
        office_class="bank",
        service="bank.account",
        legal_basis=BASIS,
        min_loa=2,
        txh=txh,
        card_certificate=CARD.card_certificate,
    )


async def test_one_inquiry_over_tls_from_end_to_end(
    parties: tuple[dict[str, Any], dict[str, Any]], terminal_ca: tls.Authority
) -> None:
    registry, nix = parties
    terminal = Terminal.make(terminal_ca, "t-0001", now_ms=now_ms())
    txh = secrets.token_bytes(32)
    async with door(parties, terminal) as inquiry:
        assert abs(await inquiry.trusted_time() - now_ms()) < 10_000
        challenge = await opened(inquiry, txh)
        granted = await inquiry.obtain(challenge, **proofs(challenge, terminal.thumbprint, CARD, txh))
    key = public_key(registry["registry_key"])
    judged = assertion.verify(granted.token, {cose.key_id(key): key}, audience=AUDIENCE, at=now_ms() // 1000)
    assert judged.outcome is assertion.Outcome.GENUINE_NOW
    async with https(registry) as http:
        answer = await http.post(
            f"{registry['public_url']}/api/v1/verify", json={"code": granted.tracking_code, "aud": AUDIENCE}
        )
        assert answer.json()["result"]["state"] == "issued"
        assert (await http.get(f"{registry['public_url']}/verify")).status_code == 200
    async with https(nix) as http:
        rows = (await http.get(f"{nix['operator_url']}/nix/v1/log")).json()
    assert [row["forwarded"] for row in rows][:2] == [1, 1]


async def test_a_dropped_answer_is_recovered_over_the_real_line(
    parties: tuple[dict[str, Any], dict[str, Any]], terminal_ca: tls.Authority
) -> None:
    registry, _ = parties
    terminal = Terminal.make(terminal_ca, "t-0002", now_ms=now_ms())
    async with https(registry) as http, door(parties, terminal) as inquiry:
        before = (await http.get(f"{registry['operator_url']}/sim/counts")).json()
        await http.post(f"{registry['operator_url']}/sim/faults", json={"drop_answers": True})

        async def repair() -> None:
            for _ in range(500):
                if (await http.get(f"{registry['operator_url']}/sim/counts")).json() != before:
                    break
                await asyncio.sleep(0.01)
            await http.post(f"{registry['operator_url']}/sim/faults", json={})

        async with asyncio.TaskGroup() as group:
            asked = group.create_task(opened(inquiry, secrets.token_bytes(32)))
            group.create_task(repair())
        after = (await http.get(f"{registry['operator_url']}/sim/counts")).json()
    assert asked.result().tracking_code
    assert after["inquiry"] == before["inquiry"] + 1


async def test_the_registrys_door_for_the_exchange_is_closed_to_everybody_else(
    parties: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    registry, _ = parties
    async with https(registry) as http:
        with pytest.raises(httpx.TransportError):
            await http.post(f"{registry['url']}/registry/v1/inquiries", content=b"")
        elsewhere = await http.post(f"{registry['public_url']}/registry/v1/inquiries", content=b"")
        assert elsewhere.status_code == 404
        assert (await http.post(f"{registry['public_url']}/sim/faults", json={})).status_code == 404


@pytest.mark.requirement("D1")
async def test_a_server_that_the_pinned_authority_did_not_certify_is_not_talked_to(
    parties: tuple[dict[str, Any], dict[str, Any]], terminal_ca: tls.Authority
) -> None:
    registry, _ = parties
    terminal = Terminal.make(terminal_ca, "t-0003", now_ms=now_ms())
    async with door(parties, terminal, ca=registry["ca"]) as inquiry:
        with pytest.raises(InquiryError) as caught:
            await opened(inquiry, secrets.token_bytes(32))
    assert caught.value.failure is Failure.REGISTRY_UNREACHABLE
