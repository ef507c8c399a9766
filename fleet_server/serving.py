"""How our HTTP programs run: uvicorn with bounds on who connects, and one JSON line on stdout when it is ready."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import resource
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fleet_server.config import in_url

_KEEP_ALIVE_S: Final = 15
_CLOSE_WITHIN_S: Final = 2
"""Live pages hold their connection for ever; this is how long they may after a signal."""
_CONNECTIONS_MAX: Final = 1000
_NOT_STARTED: Final = 3
"""Exit status when the address cannot be listened on; uvicorn's own."""

_log = structlog.get_logger()


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
    """Body with its framing, and trailers; how much of it is kept is for the application to bound."""
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
    """uvicorn that keeps `bounds`, in TLS handshakes too."""

    def __init__(self, config: uvicorn.Config, bounds: Bounds) -> None:
        super().__init__(config)
        self._bounds = bounds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        config, bounds = self.config, self._bounds
        options: dict[str, Any] = {"ssl": config.ssl, "backlog": config.backlog}
        if config.ssl is not None:
            options["ssl_handshake_timeout"] = bounds.handshake_within_s
            options["ssl_shutdown_timeout"] = bounds.tls_close_within_s

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(config, self.server_state, self.lifespan.state, bounds)

        loop = asyncio.get_running_loop()
        if sockets is None:
            self.servers = [await loop.create_server(protocol, config.host, config.port, **options)]
        else:
            self.servers = [await loop.create_server(protocol, sock=sock, **options) for sock in sockets]


def announce(role: str, **facts: Any) -> None:
    """Tell whoever started this process that it is ready: one line of JSON on stdout."""
    sys.stdout.write(json.dumps({"role": role, "pid": os.getpid()} | facts) + "\n")
    sys.stdout.flush()


class _AnnouncingServer(BoundedServer):
    def __init__(self, config: uvicorn.Config, role: str, url: str) -> None:
        super().__init__(config, Bounds())
        self._ready = (role, {"url": url, "port": config.port})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as exc:
            _log.critical("cannot_listen", port=self.config.port, error=exc.strerror)
            await self.lifespan.shutdown()
            sys.exit(_NOT_STARTED)
        role, facts = self._ready
        announce(role, **facts)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # live pages would hold their connections until they are cut
        end_streams = getattr(getattr(self.config.app, "state", None), "end_streams", None)
        if end_streams is not None:
            await end_streams()
        await super().shutdown(sockets=sockets)


def serve(app: FastAPI, *, role: str, host: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
    """Serve `app` until SIGTERM or SIGINT. `tls` is certificate and key; TLS 1.2 is the least that is spoken.

    No access log is written: a URL may carry a one-time token.
    """
    scheme = "http" if tls is None else "https"
    factory = None if tls is None else (lambda _config, _default: server_context(*tls))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_WITHIN_S,
        limit_concurrency=_CONNECTIONS_MAX,
        ssl_context_factory=factory,
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # handshakes that are not finished are no connections yet, but each holds a file
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _AnnouncingServer(config, role, f"{scheme}://{in_url(host)}:{port}").run()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a listener that asks for no client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
