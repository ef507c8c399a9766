"""What every request passes before anything reads it: host allow-list, body limit, and the headers of every answer.

Pure ASGI, so that server-sent events stream through.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent.kiosk.problems import Problem

MAX_BODY_BYTES: Final = 8 * 1024
MAX_TARGET_BYTES: Final = 2 * 1024
BODY_WITHIN_S: Final = 10.0

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), display-capture=()",
}


def host_name(host: str) -> str:
    """The name in a Host header, without its port: ``[::1]:80`` gives ``[::1]``. Anything else is given back whole."""
    found = _HOST.fullmatch(host)
    return found[1] if found else host


class Guard:
    """Wraps the application. Raises nothing of its own; refuses with problem documents."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str]) -> None:
        self.app = app
        self.allowed_hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                # what the counter shows must not stay in a browser; only static files say otherwise
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if host_name(headers.get("host", "")) not in self.allowed_hosts:
            await Problem.HOST_REFUSED.response()(scope, receive, send_with_headers)
            return
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_TARGET_BYTES:
            await Problem.TOO_LARGE.response()(scope, receive, send_with_headers)
            return
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await read_body(receive)
        except TimeoutError:
            await Problem.TOO_SLOW.response()(scope, receive, send_with_headers)
            return
        if body is None:
            await Problem.TOO_LARGE.response()(scope, receive, send_with_headers)
            return
        await self.app(scope, _replay(body, receive), send_with_headers)


async def read_body(receive: Receive, limit_bytes: int = MAX_BODY_BYTES) -> bytes | None:
    """The whole request body, or None as soon as it is longer than `limit_bytes`."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > limit_bytes:
            return None
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` once and then what comes after it, which is the disconnect."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
