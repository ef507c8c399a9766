"""The exchange: who gets through, what is written down, and that an answer leaves no trace of itself."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tools.simulators import issuer
from tools.simulators.nix import app
from tools.simulators.nix.exchange import RegistryUnreachableError
from tools.simulators.nix.store import Store
from tools.simulators.nix.tests.test_matrix import GRANTED, SERVICES
from tools.simulators.party import tls
from tools.simulators.registry.tests.world import Terminal, World, counted
from wire import cose, fields, tracking_code
from wire.failures import Failure
from wire.inquiry import MAX_ANSWER_BYTES, MAX_ENVELOPE_BYTES, MEDIA_TYPE, Answer, Envelope, TimeRequest

CARD = issuer.personalise(7)
INQUIRIES = "/nix/v1/inquiries"


class Pieces(httpx.AsyncByteStream):
    """A response that arrives bit by bit."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def client(world: World) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(world.nix_app)
    return httpx.AsyncClient(transport=transport, base_url="https://nix", headers={"content-type": MEDIA_TYPE})


def envelope(world: World, **header: object) -> bytes:
    body = world.terminal.sealed(world.terminal.challenge_request(CARD))
    return world.terminal.envelope(body, world.clock(), **header)


def refused(world: World, data: bytes, failure: Failure) -> Answer:
    """A refusal of the exchange has a code that the exchange has kept."""
    answer = world.read_nix(data)
    assert answer.failure is failure
    assert tracking_code.parse(answer.tracking_code)
    with sqlite3.connect(world.directory / "nix.db") as db:
        kept = db.execute("SELECT count(*) FROM code WHERE tracking_code = ?", (answer.tracking_code,)).fetchone()
    db.close()
    assert kept == (1,)
    return answer


def forwarding(world: World, forward: Callable[[bytes], Awaitable[bytes]]) -> httpx.AsyncClient:
    """The exchange before another registry."""
    exchange = replace(world.exchange, forward=forward)
    transport = httpx.ASGITransport(app.terminals(exchange, forward, delay_s=0))
    return httpx.AsyncClient(transport=transport, base_url="https://nix", headers={"content-type": MEDIA_TYPE})


async def test_what_is_permitted_goes_on_unchanged_and_the_answer_comes_back_untouched(world: World) -> None:
    seen: list[bytes] = []

    async def registry(data: bytes) -> bytes:
        seen.append(data)
        return b"\x00 not even an answer \xff"

    data = envelope(world)
    async with forwarding(world, registry) as http:
        response = await http.post(INQUIRIES, content=data)
    assert seen == [data]
    assert response.content == b"\x00 not even an answer \xff"
    assert response.status_code == 200


@pytest.mark.requirement("D11")
@pytest.mark.requirement("B5")
async def test_every_cell_of_the_matrix_is_decided_and_every_denial_has_a_code(world: World) -> None:
    reached: list[bytes] = []

    async def registry(data: bytes) -> bytes:
        reached.append(data)
        return b"answered"

    outcomes: dict[Failure | None, int] = {}
    async with forwarding(world, registry) as http:
        for agency, service in product(GRANTED, SERVICES):
            owner = service.partition(".")[0]
            data = envelope(world, from_agency=agency, service=service, to_agency=owner, office_class="agency")
            response = await http.post(INQUIRIES, content=data)
            if response.content == b"answered":
                failure = None
                assert owner == "nocr"
            else:
                answer = world.read_nix(response.content)
                failure = answer.failure
                assert (answer.missing_decision is not None) == (failure is Failure.NOT_PERMITTED)
            assert (failure is not Failure.NOT_PERMITTED) == (service in GRANTED[agency])
            outcomes[failure] = outcomes.get(failure, 0) + 1
    # only the civil registry's services have somewhere to go here; the others are permitted but not served
    assert outcomes == {None: 3, Failure.REGISTRY_UNREACHABLE: 23, Failure.NOT_PERMITTED: 72}
    assert len(reached) == 3
    assert sum(row["forwarded"] for row in world.nix_store.page(after=0, limit=200)) == 3


async def test_a_repeated_header_is_refused_even_with_the_same_bytes(world: World) -> None:
    data = envelope(world)
    async with client(world) as http:
        first = await http.post(INQUIRIES, content=data)
        assert world.read(first.content).failure is Failure.NONE
        again = await http.post(INQUIRIES, content=data)
        refused(world, again.content, Failure.REQUEST_REFUSED)
        world.clock.ms += 119_000
        late = await http.post(INQUIRIES, content=data)
        refused(world, late.content, Failure.REQUEST_REFUSED)
        world.clock.ms += 600_000
        very_late = await http.post(INQUIRIES, content=data)
        refused(world, very_late.content, Failure.REQUEST_REFUSED)
    assert len(world.nix_store.page(after=0, limit=10)) == 1


async def test_a_trace_id_belongs_to_its_terminal(world: World) -> None:
    trace_id = bytes(16)
    body = world.other_terminal.sealed(world.other_terminal.challenge_request(CARD))
    async with client(world) as http:
        mine = await http.post(INQUIRIES, content=envelope(world, trace_id=trace_id))
        theirs = await http.post(
            INQUIRIES, content=world.other_terminal.envelope(body, world.clock(), trace_id=trace_id)
        )
    assert world.read(mine.content).failure is Failure.NONE
    assert world.read(theirs.content).failure is Failure.NONE


@pytest.mark.requirement("B5")
async def test_who_is_not_a_terminal_of_the_fleet_is_refused_with_a_code(world: World, tmp_path: Path) -> None:
    stranger_ca = tls.authority(tmp_path / "other", "SIMULATED fleet", now_ms=world.clock())
    stranger = Terminal.make(stranger_ca, "t-0001")
    impostor = Terminal(ec.generate_private_key(ec.SECP256R1()), world.terminal.certificate, counted("impostor"))
    body = world.terminal.sealed(world.terminal.challenge_request(CARD))
    true = fields.decode(world.terminal.envelope(body, world.clock()), Envelope)
    other_body = world.terminal.sealed(world.terminal.challenge_request(CARD))
    hostile = {
        "another authority of the same name": stranger.envelope(body, world.clock()),
        "another key than the certificate's": impostor.envelope(body, world.clock()),
        "another body than the header's": fields.encode(Envelope(true.header, other_body, true.certificate)),
        "a body offered as header": fields.encode(Envelope(true.body, true.body, true.certificate)),
        "yesterday": world.terminal.envelope(body, world.clock() - 120_001),
        "tomorrow": world.terminal.envelope(body, world.clock() + 120_001),
        "another size": world.terminal.envelope(body, world.clock(), size_bucket=9),
    }
    async with client(world) as http:
        for what, data in hostile.items():
            with capture_logs() as logs:
                response = await http.post(INQUIRIES, content=data)
            refused(world, response.content, Failure.REQUEST_REFUSED)
            assert [entry["event"] for entry in logs] == ["envelope_refused"], what
    assert world.nix_store.page(after=0, limit=10) == []
    assert world.registry_store.counts()["code"] == 0


@pytest.mark.requirement("B5")
@pytest.mark.parametrize("handed_on", [True, False])
async def test_a_registry_that_does_not_answer_still_gives_a_code(world: World, *, handed_on: bool) -> None:
    async def registry(_: bytes) -> bytes:
        raise RegistryUnreachableError("gone", handed_on=handed_on)

    async with forwarding(world, registry) as http:
        response = await http.post(INQUIRIES, content=envelope(world))
    refused(world, response.content, Failure.REGISTRY_UNREACHABLE)
    assert [row["forwarded"] for row in world.nix_store.page(after=0, limit=10)] == [int(handed_on)]


@pytest.mark.parametrize(
    ("fault", "reached"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (None, True),
    ],
)
async def test_the_link_tells_not_reached_from_not_answered(
    world: World, fault: Exception | None, reached: bool
) -> None:
    def registry(_: httpx.Request) -> httpx.Response:
        if fault is not None:
            raise fault
        return httpx.Response(200, stream=Pieces([bytes(MAX_ANSWER_BYTES), b"!"]))

    async with httpx.AsyncClient(transport=httpx.MockTransport(registry), base_url="https://registry") as http:
        with pytest.raises(RegistryUnreachableError) as caught:
            await type(world.link)(http).inquire(b"")
    assert caught.value.handed_on is reached


@pytest.mark.requirement("D3")
async def test_two_runs_that_differ_only_in_the_answer_leave_identical_logs(world: World, tmp_path: Path) -> None:
    """The database, the log lines and what the operator is shown, byte for byte."""

    async def run(name: str, answer: Callable[[int], bytes]) -> tuple[list[Any], str, bytes]:
        store = Store(tmp_path / f"{name}.db")
        chance = counted("same terminal")
        terminal = replace(world.terminal, chance=chance)
        counter = iter(range(100))

        async def registry(_: bytes) -> bytes:
            return answer(next(counter))

        exchange = replace(world.exchange, store=store, forward=registry, chance=counted("same exchange"))
        transport = httpx.ASGITransport(app.terminals(exchange, registry, delay_s=0))
        with capture_logs() as logs:
            async with httpx.AsyncClient(transport=transport, base_url="https://nix") as http:
                for service in ("nocr.card_assertion", "nocr.identity_match", "nocr.card_assertion"):
                    # the signature differs from run to run (ECDSA), the header and the bytes it covers do not
                    data = terminal.envelope(FIXED_BODY, world.clock(), service=service)
                    await http.post(INQUIRIES, content=data, headers={"content-type": MEDIA_TYPE})
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app.operator(store)), base_url="https://operator"
        ) as http:
            shown = (await http.get("/nix/v1/log")).content
        store.close()
        with sqlite3.connect(tmp_path / f"{name}.db") as db:
            dump = "\n".join(db.iterdump())
        db.close()
        return logs, dump, shown

    one = await run("yes", lambda _: b"yes")
    other = await run("no", lambda number: b"no, and a long story " * 50 * (number + 1))
    assert one == other
    assert len(one[0]) == 3


FIXED_BODY = b"sealed for the registry"


@pytest.mark.requirement("D3")
async def test_the_log_shows_the_clear_header_and_nothing_more(world: World) -> None:
    async with client(world) as http:
        with capture_logs() as logs:
            await http.post(INQUIRIES, content=envelope(world))
    rows = world.nix_store.page(after=0, limit=10)
    fields_of_a_request = {
        "trace_id", "from_agency", "to_agency", "service", "legal_basis", "office_class", "at_ms", "size_bucket",
        "body_hash", "bucket_ms", "forwarded",
    }  # fmt: skip
    assert set(rows[0]) == {"id"} | fields_of_a_request
    assert rows[0]["bucket_ms"] == world.clock() - world.clock() % 60_000
    lines = [entry for entry in logs if entry["event"] == "request"]
    assert [set(entry) for entry in lines] == [{"event", "log_level"} | fields_of_a_request]


async def test_oversize_wrong_type_and_other_methods_are_turned_away(world: World) -> None:
    async with client(world) as http:
        big = await http.post(INQUIRIES, content=bytes(MAX_ENVELOPE_BYTES + 1))
        assert big.status_code == 413
        refused(world, big.content, Failure.REQUEST_REFUSED)
        assert (await http.post(INQUIRIES, content=b"", headers={"content-type": "text/plain"})).status_code == 415
        assert (await http.get(INQUIRIES)).status_code == 405
        assert (await http.get("/nix/v1/log")).status_code == 404


async def test_a_body_that_never_ends_is_cut_off_at_the_limit(world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 4096
            yield bytes(4096)

    async with client(world) as http:
        response = await http.post(INQUIRIES, content=endless())
    assert response.status_code == 413
    assert sent <= MAX_ENVELOPE_BYTES + 2 * 4096


async def test_the_registrys_time_comes_back_untouched(world: World) -> None:
    async with client(world) as http:
        good = await http.post("/nix/v1/time", content=fields.encode(TimeRequest(bytes(16))))
        assert cose.parse(good.content).kid == cose.key_id(world.registry_key.public_key())
        assert (await http.post("/nix/v1/time", content=b"\xa0")).status_code == 400
        assert (await http.post("/nix/v1/time", content=bytes(65))).status_code == 400
        world.misbehaviour.faults = type(world.misbehaviour.faults)(fail_next=1)
        assert (await http.post("/nix/v1/time", content=fields.encode(TimeRequest(bytes(16))))).status_code == 502
    assert world.nix_store.page(after=0, limit=10) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library says more of a bad certificate than its refusal
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_envelopes_end_with_a_code_and_never_with_a_crash(world: World, data: st.DataObject) -> None:
    true = envelope(world)
    kind = data.draw(st.sampled_from(["noise", "flipped", "cut", "certificate"]))
    if kind == "noise":
        hostile = data.draw(st.binary(max_size=300))
    elif kind == "cut":
        hostile = true[: data.draw(st.integers(0, len(true) - 1))]
    elif kind == "flipped":
        at = data.draw(st.integers(0, len(true) - 1))
        hostile = true[:at] + bytes([true[at] ^ data.draw(st.integers(1, 255))]) + true[at + 1 :]
    else:
        parts = fields.decode(true, Envelope)
        at = data.draw(st.integers(0, len(parts.certificate) - 1))
        certificate = bytearray(parts.certificate)
        certificate[at] ^= data.draw(st.integers(1, 255))
        hostile = fields.encode(Envelope(parts.header, parts.body, bytes(certificate)))
    async with client(world) as http:
        response = await http.post(INQUIRIES, content=hostile)
    assert response.status_code in (200, 400)
    answer = world.read_nix(response.content)
    assert answer.failure is Failure.REQUEST_REFUSED
    assert tracking_code.parse(answer.tracking_code)
