"""Reading what came over HTTP with a limit that holds while it arrives, whatever its headers say."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request


class BodyTooLongError(Exception):
    """More bytes came than allowed; reading stopped there. `head` is what was read."""

    def __init__(self, head: bytes) -> None:
        super().__init__("body too long")
        self.head = head


async def read_limited(stream: AsyncIterator[bytes], *, max_bytes: int) -> bytes:
    """The whole of `stream`.

    Raises:
        BodyTooLongError: it is longer than `max_bytes`.
    """
    held = bytearray()
    async for chunk in stream:
        held += chunk
        if len(held) > max_bytes:
            raise BodyTooLongError(bytes(held[:max_bytes]))
    return bytes(held)


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The body of a request; empty if the asker left before its end, for then nobody waits for the answer.

    Raises:
        BodyTooLongError: it is longer than `max_bytes`.
    """
    try:
        return await read_limited(request.stream(), max_bytes=max_bytes)
    except ClientDisconnect:
        return b""
