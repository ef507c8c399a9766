"""What every request passes before anything reads it: host allow-list, body limit, and the headers of every answer.

Pure ASGI, so that server-sent events stream through.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final

from fastapi.responses import PlainTextResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
TRANSPORT_SECURITY: Final = "max-age=31536000"


class Guard:
    """Wraps the application; refuses what is too large, too slow, or meant for another host name."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str], tls: bool) -> None:
        self.app = app
        self.allowed_hosts = frozenset(allowed_hosts)
        self.headers = HEADERS | ({"Strict-Transport-Security": TRANSPORT_SECURITY} if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal, body = await self._judge(scope, receive)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self.app(scope, _replay(body, receive), send_with_headers)

    async def _judge(self, scope: Scope, receive: Receive) -> tuple[PlainTextResponse | None, bytes]:
        """A refusal, or the body."""
        host = Headers(scope=scope).get("host", "").lower()
        found = _HOST.fullmatch(host)
        if (found[1] if found else host) not in self.allowed_hosts:
            return PlainTextResponse("not a name of this server", 421), b""
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_TARGET_BYTES:
            return PlainTextResponse("address too long", 414), b""
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await read_body(receive)
        except TimeoutError:
            return PlainTextResponse("request too slow", 408), b""
        if body is None:
            return PlainTextResponse("request too large", 413), b""
        return None, body


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
