"""Several TLS listeners of one simulated party in one process: one JSON line when all are up, clean stop on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
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

_STOP_WITHIN_S = 5
_KEEP_ALIVE_S = 10
_CONCURRENT_MAX = 256


@dataclass(frozen=True, slots=True)
class Listener:
    """`certificate` is a PEM file with key and certificate. With `client_authority`, only its clients get in."""

    app: FastAPI
    host: str
    port: int
    certificate: Path
    client_authority: Path | None = None


class _Server(uvicorn.Server):
    """Leaves signals alone: one process runs several, and one place decides when all of them stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
        servers = [_Server(_config(one)) for one in listeners]

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
        access_log=False,  # it would note outcomes and addresses beside the party's own log
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        limit_concurrency=_CONCURRENT_MAX,
    )


def _url(host: str, sock: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}:{sock.getsockname()[1]}"
