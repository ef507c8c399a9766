"""The operator of the simulator: card states and misbehaviour on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tools.simulators import issuer
from tools.simulators.registry import operator
from tools.simulators.registry.tests.world import World
from wire.failures import Failure
from wire.inquiry import MEDIA_TYPE

CARD = issuer.personalise(7)
NUMBER = CARD.printed["document_number"]


@pytest.fixture
async def desk(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(operator.operator(world.registry_store, world.misbehaviour))
    async with httpx.AsyncClient(transport=transport, base_url="https://operator") as http:
        yield http


async def send(world: World, data: bytes | None = None) -> httpx.Response:
    data = data or world.terminal.envelope(world.terminal.sealed(world.terminal.challenge_request(CARD)), world.clock())
    return await world.registry_http.post("/registry/v1/inquiries", content=data)


async def test_a_card_is_what_the_operator_says(world: World, desk: httpx.AsyncClient) -> None:
    for status, failure in (("revoked", Failure.CARD_NOT_VALID_ANY_MORE), ("VALID", Failure.NONE)):
        assert (await desk.post(f"/sim/cards/{NUMBER}", json={"status": status})).status_code == 204
        assert world.read((await send(world)).content).failure is failure
    assert (await desk.get("/sim/counts")).json() == {"code": 2, "inquiry": 1, "answer": 2}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"status":"stolen"}', b'{"status":1}', b'{"status":"lost"}' + b" " * 2000]
)
async def test_an_order_that_is_none_changes_nothing(world: World, desk: httpx.AsyncClient, body: bytes) -> None:
    assert (await desk.post(f"/sim/cards/{NUMBER}", content=body)).status_code == 400
    assert (await desk.post("/sim/cards/" + "9" * 33, json={"status": "lost"})).status_code == 400
    assert (await desk.post("/sim/faults", json={"explode": True})).status_code == 400
    assert world.registry_store.card_status(NUMBER) is None


async def test_a_dropped_answer_was_given_all_the_same(world: World, desk: httpx.AsyncClient) -> None:
    data = world.terminal.envelope(world.terminal.sealed(world.terminal.challenge_request(CARD)), world.clock())
    await desk.post("/sim/faults", json={"drop_answers": True})
    lost = await send(world, data)
    assert (lost.status_code, lost.content) == (504, b"")
    await desk.post("/sim/faults", json={})
    assert world.read((await send(world, data)).content).failure is Failure.NONE
    assert world.registry_store.counts()["inquiry"] == 1


async def test_faults_do_what_they_say_and_stop_when_told(world: World, desk: httpx.AsyncClient) -> None:
    await desk.post("/sim/faults", json={"fail_next": 2})
    assert [(await send(world)).status_code for _ in range(3)] == [503, 503, 200]
    await desk.post("/sim/faults", json={"garbage": True})
    assert (await send(world)).content == bytes(range(97))
    await desk.post("/sim/faults", json={"wrong_key": True, "delay_ms": 1})
    spoilt = await send(world)
    assert spoilt.headers["content-type"] == MEDIA_TYPE
    with pytest.raises(Exception, match="signature"):
        world.read(spoilt.content)
    await desk.post("/sim/faults", json={})
    assert world.read((await send(world)).content).failure is Failure.NONE


async def test_an_oversize_envelope_is_turned_away(world: World) -> None:
    assert (await send(world, bytes(128 * 1024 + 1))).status_code == 413
