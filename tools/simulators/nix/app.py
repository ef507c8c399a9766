"""The exchange over HTTP: `/nix/v1/inquiries` and `/nix/v1/time` for terminals, `/nix/v1/log` for its operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import FastAPI, Query, Request, Response

from tools.simulators.nix.exchange import Exchange, RegistryUnreachableError, name_of
from tools.simulators.nix.store import Store
from tools.simulators.party.body import BodyTooLongError, read_body
from wire import fields
from wire.failures import Failure
from wire.inquiry import MAX_ENVELOPE_BYTES, MEDIA_TYPE, TimeRequest

_TIME_REQUEST_BYTES = 64
_log = structlog.get_logger()


def terminals(exchange: Exchange, time: Callable[[bytes], Awaitable[bytes]], *, delay_s: float) -> FastAPI:
    """What terminals see. Whatever is an inquiry is answered by signed bytes; the status never tells the outcome."""
    app = FastAPI(title="NIX simulator", openapi_url=None)

    @app.post("/nix/v1/inquiries")
    async def inquire(request: Request) -> Response:
        if request.headers.get("content-type") != MEDIA_TYPE:
            return Response(status_code=415)
        try:
            data = await read_body(request, max_bytes=MAX_ENVELOPE_BYTES)
        except BodyTooLongError as exc:
            return _answer(exchange.refuse(name_of(exc.head), Failure.REQUEST_REFUSED), 413)
        await asyncio.sleep(delay_s)
        answer, readable = await exchange.inquire(data)
        return _answer(answer, 200 if readable else 400)

    @app.post("/nix/v1/time")
    async def trusted_time(request: Request) -> Response:
        try:
            data = await read_body(request, max_bytes=_TIME_REQUEST_BYTES)
            fields.decode(data, TimeRequest)
            return _answer(await time(data), 200)
        except (BodyTooLongError, fields.MessageRefusedError):
            return Response(status_code=400)
        except RegistryUnreachableError:
            _log.warning("registry_time_unreachable")
            return Response(status_code=502)

    return app


def operator(store: Store) -> FastAPI:
    """What the simulator's operator sees, on a loopback listener of its own."""
    app = FastAPI(title="NIX simulator: operator", openapi_url=None)

    @app.get("/nix/v1/log")
    async def log(
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
    ) -> list[dict[str, int | str]]:
        return store.page(after=after, limit=limit)

    return app


def _answer(data: bytes, status: int) -> Response:
    return Response(data, status_code=status, media_type=MEDIA_TYPE)
