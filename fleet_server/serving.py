"""How our HTTP programs run: uvicorn on a socket that is bound first, and one JSON line on stdout when it is ready."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

_KEEP_ALIVE_S: Final = 15
_CLOSE_WITHIN_S: Final = 2
"""Live pages hold their connection for ever; this is how long they may after a signal."""
_CONNECTIONS_MAX: Final = 1000


def announce(role: str, **facts: Any) -> None:
    """Tell whoever started this process that it is ready: one line of JSON on stdout."""
    sys.stdout.write(json.dumps({"role": role, "pid": os.getpid()} | facts) + "\n")
    sys.stdout.flush()


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, role: str, url: str, port: int) -> None:
        super().__init__(config)
        self._ready = (role, {"url": url, "port": port})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
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
        http="httptools",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_WITHIN_S,
        limit_concurrency=_CONNECTIONS_MAX,
        ssl_context_factory=factory,
    )
    shown = f"[{host}]" if ":" in host else host
    _AnnouncingServer(config, role, f"{scheme}://{shown}:{port}", port).run()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a listener that asks for no client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
