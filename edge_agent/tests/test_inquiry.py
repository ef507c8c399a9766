"""The terminal's only way out: what it believes, what it asks again, and that every inquiry ends with a code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import InquiryError
from edge_agent.inquiry import Challenge, Inquiry
from edge_agent.tests.doors import door as door_of
from edge_agent.tests.doors import proofs
from tools.simulators import issuer
from tools.simulators.party import tls
from tools.simulators.registry.operator import Faults
from tools.simulators.registry.tests.world import AUDIENCE, BASIS, START_MS, World
from wire import assertion, cose, fields, tracking_code
from wire.failures import Failure
from wire.inquiry import (
    ANSWER_TYPE,
    MAX_ANSWER_BYTES,
    MEDIA_TYPE,
    TIME_TYPE,
    TRACE_TYPE,
    Answer,
    CardStatus,
    Envelope,
    TimeAnswer,
    TraceHeader,
)

CARD = issuer.personalise(7)
TXH = bytes(range(32))
CODE = tracking_code.make(bytes(range(16)))

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


@pytest.fixture(scope="module")
def terminal_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.authority(tmp_path_factory.mktemp("fleet-ca"), "SIMULATED fleet", now_ms=START_MS)


@pytest.fixture
async def world(tmp_path: Path, terminal_ca: tls.Authority) -> AsyncIterator[World]:
    made = World(tmp_path, terminal_ca)
    yield made
    await made.close()


async def opened(door: Inquiry, **other: object) -> Challenge:
    values: dict[str, Any] = {
        "audience": AUDIENCE,
        "office_class": "notary",
        "service": "notary.deed",
        "legal_basis": BASIS,
        "min_loa": 2,
        "txh": TXH,
        "card_certificate": CARD.card_certificate,
    }
    return await door.open_inquiry(**{**values, **other})


def answering(make: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    return httpx.MockTransport(make)


def cbor_response(content: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers={"content-type": MEDIA_TYPE}, stream=Pieces([content]))


class Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


class Losing(httpx.AsyncBaseTransport):
    """The exchange behind a line that loses its first `lose` answers, after they were given."""

    def __init__(self, world: World, lose: int) -> None:
        self.inner = httpx.ASGITransport(world.nix_app)
        self.lose = lose
        self.sent: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(await request.aread())
        response = await self.inner.handle_async_request(request)
        if self.lose:
            self.lose -= 1
            await response.aclose()
            raise httpx.ReadError("line cut")
        return response


@pytest.mark.requirement("D1")
async def test_an_inquiry_through_the_exchange_gives_a_token_for_this_act(world: World) -> None:
    async with door_of(world) as door:
        challenge = await opened(door)
        assert challenge.card_status is CardStatus.VALID
        granted = await door.obtain(challenge, **proofs(challenge, world.terminal.thumbprint, CARD, TXH))
    public = world.registry_key.public_key()
    judged = assertion.verify(granted.token, {cose.key_id(public): public}, audience=AUDIENCE, at=START_MS // 1000)
    assert judged.outcome is assertion.Outcome.GENUINE_NOW
    assert judged.claims is not None
    assert judged.claims.txh == TXH
    assert judged.claims.trk == granted.tracking_code == challenge.tracking_code


@pytest.mark.requirement("B5")
@pytest.mark.parametrize("lose", [1, 3])
async def test_an_answer_lost_on_the_way_is_asked_for_again_and_counted_once(world: World, lose: int) -> None:
    line = Losing(world, lose)
    async with door_of(world, line) as door:
        challenge = await opened(door)
        assert world.registry_store.counts() == {"code": 1, "inquiry": 1, "answer": 1}
        line.lose = lose
        granted = await door.obtain(challenge, **proofs(challenge, world.terminal.thumbprint, CARD, TXH))
    assert world.registry_store.counts() == {"code": 1, "inquiry": 1, "answer": 2}
    assert granted.tracking_code == challenge.tracking_code
    envelopes = [fields.decode(data, Envelope, max_bytes=128 * 1024) for data in line.sent]
    assert len(envelopes) == 2 * (lose + 1)
    assert len({envelope.body for envelope in envelopes}) == 2, "each request is signed once"
    headers = [
        fields.decode(cose.open_signed(e.header, world.terminal.key.public_key(), TRACE_TYPE), TraceHeader)
        for e in envelopes
    ]
    assert len({header.trace_id for header in headers}) == len(headers), "each transmission can be traced"


@pytest.mark.requirement("B5")
async def test_when_the_registry_stays_silent_the_inquiry_still_ends_with_a_code(world: World) -> None:
    world.misbehaviour.faults = Faults(drop_answers=True)
    async with door_of(world) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
        assert caught.value.failure is Failure.REGISTRY_UNREACHABLE
        assert caught.value.tracking_code is not None
        world.misbehaviour.faults = Faults()
        challenge = await opened(door, txh=bytes(32))
        world.misbehaviour.faults = Faults(drop_answers=True)
        with pytest.raises(InquiryError) as caught:
            await door.obtain(challenge, **proofs(challenge, world.terminal.thumbprint, CARD, bytes(32)))
    assert caught.value.failure is Failure.REGISTRY_UNREACHABLE
    assert caught.value.tracking_code == challenge.tracking_code


@pytest.mark.parametrize("faults", [Faults(wrong_key=True), Faults(garbage=True)])
async def test_an_answer_that_nobody_we_know_has_signed_is_discarded(world: World, faults: Faults) -> None:
    async with door_of(world) as door:
        challenge = await opened(door)
        world.misbehaviour.faults = faults
        with pytest.raises(InquiryError) as caught:
            await door.obtain(challenge, **proofs(challenge, world.terminal.thumbprint, CARD, TXH))
        assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED
        assert caught.value.tracking_code == challenge.tracking_code
        with pytest.raises(InquiryError) as caught:
            await door.trusted_time()
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED


@pytest.mark.requirement("B5")
@pytest.mark.requirement("D11")
async def test_a_refusal_names_its_reason_and_its_code(world: World) -> None:
    async with door_of(world) as door:
        with pytest.raises(InquiryError, match="a decision of the interoperability working group") as caught:
            await opened(door, office_class="shop")
        assert caught.value.failure is Failure.NOT_PERMITTED
        assert caught.value.tracking_code is not None
        world.registry_store.set_card_status(CARD.printed["document_number"], CardStatus.LOST)
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.CARD_NOT_VALID_ANY_MORE
    assert caught.value.tracking_code is not None
    assert world.registry_store.code(caught.value.tracking_code) is not None


async def test_a_refusal_is_not_asked_again(world: World) -> None:
    line = Losing(world, 0)
    async with door_of(world, line) as door:
        with pytest.raises(InquiryError):
            await opened(door, office_class="shop")
    assert len(line.sent) == 1


async def test_an_old_answer_does_not_answer_a_new_request(world: World) -> None:
    kept: list[bytes] = []

    async def once() -> None:
        async with door_of(world, Recording(world, kept)) as door:
            await opened(door)

    await once()
    async with door_of(world, answering(lambda _: cbor_response(kept[0])), attempts_max=2) as door:
        door._chance = lambda size: b"\x07" * size  # another request id than in the recorded run
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED


class Recording(httpx.AsyncBaseTransport):
    def __init__(self, world: World, kept: list[bytes]) -> None:
        self.inner = httpx.ASGITransport(world.nix_app)
        self.kept = kept

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        content = await response.aread()
        self.kept.append(content)
        return cbor_response(content)


def forged(world: World, key: ec.EllipticCurvePrivateKey, **other: object) -> httpx.MockTransport:
    """Whoever holds `key` answers every request as if it were the registry."""

    def respond(request: httpx.Request) -> httpx.Response:
        envelope = fields.decode(request.content, Envelope, max_bytes=128 * 1024)
        req_id = fields.decode(cose.parse(envelope.body).payload, RequestId).req_id
        values: dict[str, Any] = {
            "req_id": req_id,
            "tracking_code": CODE,
            "failure": Failure.NONE,
            "at_ms": START_MS,
            "card_status": CardStatus.VALID,
            "nonce": bytes(32),
            "lifetime_s": 120,
            "policy": "loa-policy/spine-0",
        }
        answer = Answer(**{**values, **other})
        return cbor_response(cose.sign(fields.encode(answer), key, ANSWER_TYPE))

    return answering(respond)


class RequestId(fields.Message, frozen=True):
    req_id: fields.Id16

    KEYS = {1: "req_id"}  # noqa: RUF012  as in every message


async def test_only_the_registry_can_grant(world: World) -> None:
    async with door_of(world, forged(world, world.registry_key)) as door:
        assert (await opened(door)).tracking_code == CODE
    for key in (world.nix_key, ec.generate_private_key(ec.SECP256R1())):
        async with door_of(world, forged(world, key), attempts_max=1) as door:
            with pytest.raises(InquiryError) as caught:
                await opened(door)
        assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": None},
        {"policy": None},
        {"lifetime_s": None},
        {"card_status": None},
        {"tracking_code": CODE[:-1] + "2" if CODE[-1] != "2" else CODE[:-1] + "3"},
        {"tracking_code": CODE.lower()},
        {"req_id": bytes(16)},
    ],
)
async def test_a_signed_answer_that_is_not_a_challenge_is_refused(world: World, change: dict[str, object]) -> None:
    async with door_of(world, forged(world, world.registry_key, **change), attempts_max=1) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED


async def test_a_refusal_of_another_request_is_not_believed(world: World) -> None:
    wrong = {"req_id": bytes(16), "failure": Failure.CARD_NOT_VALID_ANY_MORE}
    async with door_of(world, forged(world, world.registry_key, **wrong), attempts_max=1) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED
    assert caught.value.tracking_code is None


@pytest.mark.parametrize("change", [{"token": None}, {"token": b"x", "tracking_code": tracking_code.make(bytes(16))}])
async def test_an_assertion_of_another_inquiry_is_refused(world: World, change: dict[str, object]) -> None:
    async with door_of(world, forged(world, world.registry_key)) as door:
        challenge = await opened(door)
    async with door_of(world, forged(world, world.registry_key, **change), attempts_max=1) as door:
        with pytest.raises(InquiryError) as caught:
            await door.obtain(challenge, **proofs(challenge, world.terminal.thumbprint, CARD, TXH))
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED
    assert caught.value.tracking_code == CODE


async def test_what_is_out_of_bounds_is_never_sent(world: World) -> None:
    line = Losing(world, 0)
    async with door_of(world, line) as door:
        for wrong in ({"min_loa": 5}, {"txh": b"short"}, {"audience": ""}, {"card_certificate": bytes(5000)}):
            with pytest.raises(InquiryError) as caught:
                await opened(door, **wrong)
            assert caught.value.failure is Failure.REQUEST_REFUSED
    assert line.sent == []


@pytest.mark.requirement("D1")
async def test_a_redirect_is_not_followed(world: World) -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere/nix/v1/inquiries"})

    async with door_of(world, answering(respond), attempts_max=2) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_UNREACHABLE
    assert asked == ["nix", "nix"]


@pytest.mark.requirement("D1")
async def test_only_https_and_no_proxy_of_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="https"):
        door_of(world, url="http://nix")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with door_of(world) as door:
        networked = Inquiry(door._route, door._credentials, now_ms=world.clock, chance=bytes)
    async with networked:
        assert not networked._http._mounts, "a proxy of the environment would be another destination"


async def test_an_answer_without_end_is_cut_off(world: World) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"content-type": MEDIA_TYPE}, stream=Pieces([bytes(1024)] * (MAX_ANSWER_BYTES // 1024 + 2))
        )

    async with door_of(world, answering(respond), attempts_max=1) as door:
        with pytest.raises(InquiryError, match="too long") as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED


@pytest.mark.parametrize("limits", [{"attempt_s": 0.01, "attempts_max": 2}, {"deadline_s": 0.01}])
async def test_a_mute_exchange_is_given_up(world: World, limits: dict[str, object]) -> None:
    async def mute(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with door_of(world, httpx.MockTransport(mute), **limits) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure is Failure.REGISTRY_UNREACHABLE
    assert caught.value.tracking_code is None


async def test_a_cancelled_visit_cancels_its_inquiry(world: World) -> None:
    async def mute(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with door_of(world, httpx.MockTransport(mute)) as door:
        task = asyncio.create_task(opened(door))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_registrys_time_is_believed_for_our_nonce_only(world: World) -> None:
    world.clock.ms = START_MS + 12_345
    async with door_of(world) as door:
        assert START_MS + 12_345 <= await door.trusted_time() < START_MS + 22_345

    def respond(_: httpx.Request) -> httpx.Response:
        return cbor_response(cose.sign(fields.encode(TimeAnswer(bytes(16), START_MS)), world.registry_key, TIME_TYPE))

    async with door_of(world, answering(respond)) as door:
        with pytest.raises(InquiryError) as caught:
            await door.trusted_time()
    assert caught.value.failure is Failure.REGISTRY_ANSWER_REFUSED
    world.misbehaviour.faults = Faults(fail_next=1)
    async with door_of(world) as door:
        with pytest.raises(InquiryError) as caught:
            await door.trusted_time()
    assert caught.value.failure is Failure.REGISTRY_UNREACHABLE


@given(content=st.binary(max_size=300), status=st.sampled_from([200, 204, 400, 413, 500]))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_comes_back_ends_as_an_inquiry_error(world: World, content: bytes, status: int) -> None:
    async with door_of(world, answering(lambda _: cbor_response(content, status)), attempts_max=1) as door:
        with pytest.raises(InquiryError) as caught:
            await opened(door)
    assert caught.value.failure in (Failure.REGISTRY_ANSWER_REFUSED, Failure.REGISTRY_UNREACHABLE)
