"""What a stranger may cost our listeners: the protocol by itself, then a real uvicorn on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from fleet_server.serving import BoundedProtocol, BoundedServer, Bounds
from fleet_server.tests.real_fleet import RealFleet, until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEVER_S = 3600.0


async def echo_length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers ``/early`` without looking at the body, all else with the body's length."""
    text = "early" if scope["path"] == "/early" else str(len(await Request(scope, receive).body()))
    await PlainTextResponse(text)(scope, receive, send)


class FakeTransport(asyncio.Transport):
    def __init__(self, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 1)})
        self.written = b""
        self.closed = False
        self.aborted = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed or self.aborted.is_set()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted.set()

    def pause_reading(self) -> None:
        return None

    def resume_reading(self) -> None:
        return None


class Listener:
    """A listener's state without a socket."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.config = uvicorn.Config(
            echo_length,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=NEVER_S,  # type: ignore[arg-type] # seconds
        )
        self.state = ServerState()
        self.made: list[BoundedProtocol] = []

    def connect(self, address: str = "192.0.2.1") -> tuple[BoundedProtocol, FakeTransport]:
        transport = FakeTransport(address)
        protocol = BoundedProtocol(self.config, self.state, {}, self.bounds)
        protocol.connection_made(transport)
        self.made.append(protocol)
        return protocol, transport

    async def settled(self) -> None:
        while self.state.tasks:
            await asyncio.wait(self.state.tasks)


@contextlib.contextmanager
def listener(**bounds: Any) -> Iterator[Listener]:
    made = Listener(Bounds(**({"head_within_s": NEVER_S, "request_within_s": NEVER_S} | bounds)))
    yield made
    for protocol in made.made:
        protocol.connection_lost(None)


async def test_a_connection_that_never_sends_a_request_is_cut() -> None:
    with listener(head_within_s=0.0) as at:
        _, transport = at.connect()
        await transport.aborted.wait()


async def test_a_byte_now_and_then_does_not_lengthen_the_time_for_the_headers() -> None:
    with listener() as at:
        protocol, _ = at.connect()
        until = protocol._deadline
        for byte in GET[:-1]:
            protocol.data_received(bytes([byte]))
        assert protocol._deadline is until


async def test_empty_lines_after_an_answer_do_not_hold_the_connection() -> None:
    with listener() as at:
        protocol, transport = at.connect()
        protocol.data_received(GET)
        await at.settled()
        assert transport.written.endswith(b"0")
        assert protocol._deadline is None
        protocol.data_received(b"\r\n")
        assert protocol._deadline is not None


async def test_a_body_that_does_not_come_is_cut_even_when_the_answer_is_given() -> None:
    with listener(request_within_s=0.0) as at:
        protocol, transport = at.connect()
        protocol.data_received(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        await transport.aborted.wait()
        await at.settled()


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
async def test_headers_may_be_as_long_as_the_bound_and_not_a_byte_longer(step: int) -> None:
    for length, accepted in ((1024, True), (1025, False)):
        with listener(head_bytes=1024) as at:
            protocol, transport = at.connect()
            head = GET[:-2] + b"X: " + b"a" * (length - len(GET) - len(b"X: \r\n")) + b"\r\n\r\n"
            assert len(head) == length
            for start in range(0, length, step):
                if not transport.is_closing():
                    protocol.data_received(head[start : start + step])
            await at.settled()
            assert transport.written.startswith(b"HTTP/1.1 200" if accepted else b"HTTP/1.1 400")
            assert transport.closed is not accepted


async def test_trailers_without_end_are_cut() -> None:
    with listener(request_bytes=10_000) as at:
        protocol, transport = at.connect()
        protocol.data_received(b"POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
        for _ in range(10):
            protocol.data_received(b"a" * 1000)
        assert transport.aborted.is_set()
        await at.settled()


async def test_many_requests_on_one_connection_each_have_the_whole_bound() -> None:
    with listener(head_bytes=64) as at:
        protocol, transport = at.connect()
        for count in range(1, 20):
            protocol.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + bytes(100))
            await at.settled()
            assert transport.written.count(b"HTTP/1.1 200") == count
        assert not transport.is_closing()


async def test_a_later_request_on_a_connection_has_no_longer_headers_than_the_first() -> None:
    with listener(head_bytes=64) as at:
        protocol, transport = at.connect()
        protocol.data_received(GET)
        await at.settled()
        protocol.data_received(GET[:-2] + b"X: " + b"a" * 64)
        assert transport.aborted.is_set()


async def test_one_address_may_hold_only_so_many_connections_and_others_still_get_in() -> None:
    with listener(connections_per_address=2) as at:
        first, _ = at.connect()
        assert not at.connect()[1].aborted.is_set()
        assert at.connect()[1].aborted.is_set()
        at.made[-1].connection_lost(None)
        assert not at.connect("192.0.2.2")[1].aborted.is_set()
        first.connection_lost(None)
        at.made.remove(first)
        assert not at.connect()[1].aborted.is_set()


async def test_ipv6_addresses_count_by_their_network_and_mapped_ones_as_what_they_map() -> None:
    with listener(connections_per_address=1) as at:
        assert not at.connect("2001:db8::1")[1].aborted.is_set()
        assert at.connect("2001:db8::2:ffff")[1].aborted.is_set()
        assert not at.connect("2001:db8:0:1::1")[1].aborted.is_set()
        assert not at.connect("::ffff:192.0.2.7")[1].aborted.is_set()
        assert not at.connect("::ffff:192.0.2.8")[1].aborted.is_set()
        assert at.connect("192.0.2.8")[1].aborted.is_set()


@contextlib.asynccontextmanager
async def real_listener(bounds: Bounds) -> AsyncIterator[int]:
    """A real uvicorn with `bounds`; its port."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo_length, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    server = BoundedServer(config, bounds)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    yield sock.getsockname()[1]
    server.should_exit = True
    await running


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


@pytest.mark.bench
async def test_silent_connections_to_a_real_listener_end_and_a_request_is_answered() -> None:
    async with real_listener(Bounds(head_within_s=0.3)) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for other, _ in silent:
            assert await read_to_end(other) == b""
        for one in (writer, *(other for _, other in silent)):
            one.close()


@pytest.mark.bench
async def test_endless_headers_to_a_real_listener_are_refused_after_the_bound() -> None:
    async with real_listener(Bounds()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET[:-2] + b"X: " + b"a" * 16 * 1024)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.bench
def test_whoever_holds_all_connections_that_one_address_may_hold_does_not_keep_others_from_enrolment(
    tmp_path: Path,
) -> None:
    fleet = RealFleet(tmp_path / "fleet")
    with contextlib.ExitStack() as stack:
        stack.callback(fleet.stop_all)
        fleet.start("est")
        held = [stack.enter_context(connected(fleet, "127.0.0.1")) for _ in range(150)]
        until(lambda: sum(map(ended, held)) == 150 - Bounds().connections_per_address)
        other = stack.enter_context(connected(fleet, "127.0.0.2"))
        other.sendall(b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"


def connected(fleet: RealFleet, source: str) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", fleet.config.est.port), source_address=(source, 0))
    return fleet.tls().wrap_socket(raw, server_hostname="localhost")


def ended(connection: ssl.SSLSocket) -> bool:
    connection.settimeout(0.001)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
