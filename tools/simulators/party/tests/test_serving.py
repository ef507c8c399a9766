"""What a stranger may cost a party's listener: the protocol by itself, then a real uvicorn with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from uvicorn.server import ServerState

from tools.simulators.party import serving, tls
from tools.simulators.party.body import read_body
from tools.simulators.party.serving import BoundedProtocol, BoundedServer, Bounds

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEVER_S = 3600.0


def party() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def empty() -> Response:
        return Response()

    @app.post("/")
    async def length(request: Request) -> Response:
        return Response(str(len(await read_body(request, max_bytes=10_000))))

    return app


class FakeTransport(asyncio.Transport):
    def __init__(self, address: str) -> None:
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

    def __init__(self, **bounds: Any) -> None:
        self.bounds = Bounds(**({"head_within_s": NEVER_S, "request_within_s": NEVER_S} | bounds))
        self.config = uvicorn.Config(party(), http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
        self.state = ServerState()

    @contextlib.contextmanager
    def connect(self, address: str = "192.0.2.1") -> Any:
        transport = FakeTransport(address)
        protocol = BoundedProtocol(self.config, self.state, {}, self.bounds)
        protocol.connection_made(transport)
        yield protocol, transport
        protocol.connection_lost(None)


async def test_who_connects_and_asks_nothing_is_cut() -> None:
    with Listener(head_within_s=0.0).connect() as (_, transport):
        await transport.aborted.wait()


async def test_a_body_that_stops_coming_ends_the_request() -> None:
    at = Listener(request_within_s=0.0)
    with at.connect() as (protocol, transport):
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12")
        await transport.aborted.wait()
    await asyncio.wait(at.state.tasks)
    assert transport.written == b""


async def test_headers_without_end_are_refused_at_the_bound() -> None:
    with Listener(head_bytes=100).connect() as (protocol, transport):
        protocol.data_received(GET[:-2] + b"X: " + b"a" * 100)
        assert transport.written.startswith(b"HTTP/1.1 400")
        assert transport.closed


async def test_trailers_without_end_are_cut() -> None:
    at = Listener(request_bytes=1000)
    with at.connect() as (protocol, transport):
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
        protocol.data_received(b"a" * 1000)
        assert transport.aborted.is_set()
    await asyncio.wait(at.state.tasks)


async def test_one_address_cannot_take_the_places_of_all() -> None:
    at = Listener(connections_per_address=1)
    with at.connect() as (_, first), at.connect() as (_, second), at.connect("192.0.2.2") as (_, other):
        assert [one.aborted.is_set() for one in (first, second, other)] == [False, True, False]
    with at.connect() as (_, again):
        assert not again.aborted.is_set()


@contextlib.asynccontextmanager
async def real_listener(data: Path, bounds: Bounds) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A real TLS listener of a party with `bounds`: its port, and what trusts it."""
    now_ms = time.time_ns() // 1_000_000
    ca = tls.authority(data / "ca", "test", now_ms=now_ms)
    certificate = tls.server(ca, data / "server.pem", ["localhost"], now_ms=now_ms)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = BoundedServer(serving._config(serving.Listener(party(), "127.0.0.1", port, certificate)), bounds)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    yield port, ssl.create_default_context(cafile=str(ca.certificate))
    server.should_exit = True
    await running


@pytest.mark.bench
async def test_silence_before_and_after_the_handshake_ends_and_a_request_is_answered(tmp_path: Path) -> None:
    bounds = Bounds(handshake_within_s=0.3, head_within_s=0.3)
    async with real_listener(tmp_path, bounds) as (port, trust):
        raw = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        silent = [await asyncio.open_connection("localhost", port, ssl=trust) for _ in range(5)]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for other, _ in raw + silent:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await other.read() == b""
        for one in (writer, *(other for _, other in raw + silent)):
            one.close()


@pytest.mark.bench
async def test_a_real_listener_takes_no_more_header_than_the_bound(tmp_path: Path) -> None:
    async with real_listener(tmp_path, Bounds()) as (port, trust):
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
        writer.write(GET[:-2] + b"X: " + b"a" * 16 * 1024)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()
