"""Runs the kiosk's application on the agent's own event loop. The only file with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_agent.kiosk.config import KioskConfig

CLOSE_WITHIN_S: Final = 1
"""How long an answer may still take after the agent was told to stop."""


ASK_WITHIN_S: Final = 10.0
"""How long a connection may be there before the headers of its first request are."""


class AskingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which by itself waits for ever for the first request of a connection.

    A length bound on headers is h11's own (`h11_max_incomplete_event_size`), on the body and its time the guard's.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn narrows it
        super().connection_made(transport)
        self._deadline = self.loop.call_later(ASK_WITHIN_S, self._end_if_nothing_was_asked)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def _end_if_nothing_was_asked(self) -> None:
        # None until the headers of the first request are there, though uvicorn declares it without
        if getattr(self, "scope", None) is None:
            self.transport.abort()


class _Server(uvicorn.Server):
    """Signals belong to the agent, which cancels this task."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(config: KioskConfig) -> socket.socket:
    """Bind the loopback address of `config` and listen.

    Raises:
        OSError: the address is taken.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio turns Nagle off only for sockets that say that they are TCP
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        # from here on a caller waits instead of being refused, also before the server has started
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


async def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until cancelled. Open pages and long polls end then; what does not is cut after `CLOSE_WITHIN_S`."""
    settings = uvicorn.Config(
        app, http=AskingProtocol, lifespan="off", log_config=None, access_log=False, server_header=False,
        date_header=False, proxy_headers=False, timeout_graceful_shutdown=CLOSE_WITHIN_S, timeout_keep_alive=15,
        limit_concurrency=128, h11_max_incomplete_event_size=16 * 1024, ws="none",
    )  # fmt: skip
    server = _Server(settings)
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        app.state.closing.set()
        server.should_exit = True
        await running
        raise
