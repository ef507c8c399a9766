"""Several TLS listeners of one simulated party in one process: one JSON line when all are up, clean stop on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_STOP_WITHIN_S = 5
_KEEP_ALIVE_S = 10
_CONNECTIONS_MAX = 512


@dataclass(frozen=True, slots=True)
class Listener:
    """`certificate` is a PEM file with key and certificate. With `client_authority`, only its clients get in."""

    app: FastAPI
    host: str
    port: int
    certificate: Path
    client_authority: Path | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What anybody who can connect may cost, before anything is known of them."""

    handshake_within_s: float = 10.0
    tls_close_within_s: float = 5.0
    head_within_s: float = 10.0
    """To the end of a request's headers: from the connection, or from the first byte after an earlier request."""
    request_within_s: float = 20.0
    """From the end of the headers to the end of the body, also when the answer is given already."""
    head_bytes: int = 16 * 1024
    request_bytes: int = 1024 * 1024
    """Body with its framing, and trailers; how much of it is kept is for `body.read_body` to bound."""
    connections_per_address: int = 128
    """IPv6 addresses count by /64, which is what one household gets."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which by itself waits for ever for a request and keeps headers and trailers without end.

    What is beyond the bounds is cut without a log line: else whoever opens connections would write our log.
    """

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], bounds: Bounds
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._bounds = bounds
        self._deadline: asyncio.TimerHandle | None = None
        self._room_bytes = bounds.head_bytes
        self._asked = False
        self.address: bytes | str = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn narrows it
        super().connection_made(transport)
        self.address = _address(self.client)
        same = sum(isinstance(one, BoundedProtocol) and one.address == self.address for one in self.connections)
        if same > self._bounds.connections_per_address or len(self.connections) > _CONNECTIONS_MAX:
            transport.abort()
        else:
            self._expect_within(self._bounds.head_within_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            # also what begins no request, an empty line, ends uvicorn's wait for one
            self._expect_within(self._bounds.head_within_s)
        while data and not self.transport.is_closing():
            part, data = data[: self._room_bytes], data[self._room_bytes :]
            self._room_bytes -= len(part)
            super().data_received(part)
            if self._room_bytes <= 0:
                self._refuse_length()

    def on_headers_complete(self) -> None:
        self._asked = True
        self._room_bytes = self._bounds.request_bytes
        self._expect_within(self._bounds.request_within_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._room_bytes = self._bounds.head_bytes
        self._expect_nothing()
        super().on_message_complete()

    def _refuse_length(self) -> None:
        if self._asked:
            # an answer may be under way; a second one would be read as part of it
            self.transport.abort()
        else:
            self.send_400_response("Request too long.")

    def _expect_within(self, within_s: float) -> None:
        self._expect_nothing()
        # abort, not close: nobody who sends nothing is waited for once more to take leave
        self._deadline = self.loop.call_later(within_s, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _address(client: tuple[str, int] | None) -> bytes | str:
    """What connections are counted by."""
    host = client[0] if client else ""
    if ":" not in host:
        return host
    found = ipaddress.IPv6Address(host)
    return str(found.ipv4_mapped) if found.ipv4_mapped else found.packed[:8]


class BoundedServer(uvicorn.Server):
    """uvicorn that keeps `bounds`, in TLS handshakes too.

    Leaves signals alone: one process runs several, and one place decides when all of them stop.
    """

    def __init__(self, config: uvicorn.Config, bounds: Bounds) -> None:
        super().__init__(config)
        self._bounds = bounds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        config, bounds = self.config, self._bounds

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(config, self.server_state, self.lifespan.state, bounds)

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=bounds.handshake_within_s,
                ssl_shutdown_timeout=bounds.tls_close_within_s,
            )
            for sock in sockets or []
        ]


def log_to_stderr(*, with_times: bool) -> None:
    """structlog as one JSON object a line on standard error; standard output is for the ready line."""
    times = [structlog.processors.TimeStamper(fmt="iso", utc=True)] if with_times else []
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *times,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def serve(listeners: Sequence[Listener], ready: Callable[[list[str]], dict[str, Any]]) -> None:
    """Serve until SIGTERM or SIGINT. When all listeners are up, prints `ready(urls)` as one line of JSON.

    Raises:
        OSError: a port cannot be bound.
        SystemExit: a listener could not start; uvicorn has said why.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bound(one)) for one in listeners]
        servers = [BoundedServer(_config(one), Bounds()) for one in listeners]

        def stop() -> None:
            for server in servers:
                server.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        async with asyncio.TaskGroup() as group:
            for server, sock in zip(servers, sockets, strict=True):
                group.create_task(server.serve(sockets=[sock]))
            while not all(server.started or server.should_exit for server in servers):  # noqa: ASYNC110  uvicorn has only this flag
                await asyncio.sleep(0.01)
            urls = [_url(one.host, sock) for one, sock in zip(listeners, sockets, strict=True)]
            print(json.dumps(ready(urls), ensure_ascii=False), flush=True)


def _bound(listener: Listener) -> socket.socket:
    """A listening socket whose connections send at once.

    asyncio turns Nagle's delay off by itself only for sockets that name their protocol; these do not, and 40 ms an
    answer was the price.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.create_server((listener.host, listener.port), family=family)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _config(listener: Listener) -> uvicorn.Config:
    return uvicorn.Config(
        listener.app,
        ssl_certfile=str(listener.certificate),
        ssl_ca_certs=str(listener.client_authority) if listener.client_authority else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if listener.client_authority else ssl.CERT_NONE,
        log_config=None,
        http=BoundedProtocol,
        access_log=False,  # it would note outcomes and addresses beside the party's own log
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        limit_concurrency=_CONNECTIONS_MAX,
    )


def _url(host: str, sock: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}:{sock.getsockname()[1]}"
