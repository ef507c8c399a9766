"""Wires the kiosk page and the office API around one desk."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from edge_agent.kiosk import api, assets, pages
from edge_agent.kiosk.api import ApiError
from edge_agent.kiosk.config import KioskConfig
from edge_agent.kiosk.desk import Desk, VisitRefusedError
from edge_agent.kiosk.guard import Guard
from edge_agent.kiosk.problems import Problem, refused
from wire.failures import Failure

STATIC = Path(__file__).parent / "static"


def create_app(desk: Desk, config: KioskConfig, *, csrf: Callable[[], str] = secrets.token_urlsafe) -> FastAPI:
    """The web application for one terminal. Opens nothing and starts nothing; `serve` runs it.

    ``state.closing``, once set, ends open pages and long polls.
    """
    app = FastAPI(
        title="Govah office API",
        version="1",
        description="Ask the terminal at the counter for an assertion of a smart national card, for one act.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    static = assets.load(STATIC)
    app.state.closing = closing = asyncio.Event()
    app.include_router(api.router(desk, config, closing))
    app.include_router(pages.router(pages.Pages(desk, config, static, csrf=csrf(), closing=closing)))
    app.include_router(assets.router(static))
    app.add_middleware(Guard, allowed_hosts=config.allowed_hosts)
    _handle_refusals(app)
    return app


def _handle_refusals(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_: Request, exc: ApiError) -> Response:
        return exc.response

    @app.exception_handler(VisitRefusedError)
    async def visit_refused(_: Request, exc: VisitRefusedError) -> Response:
        return refused(exc.failure)

    @app.exception_handler(RequestValidationError)
    async def not_well_formed(_: Request, exc: RequestValidationError) -> Response:
        # pydantic's own document repeats the value that it refused; this one names only field and rule
        fields = [
            {"field": ".".join(str(part) for part in error["loc"])[:200], "rule": str(error["type"])}
            for error in exc.errors()[:16]
        ]
        return refused(Failure.REQUEST_REFUSED, fields)

    @app.exception_handler(HTTPException)
    async def http(_: Request, exc: HTTPException) -> Response:
        by_status = {problem.value[0]: problem for problem in Problem}
        return by_status.get(exc.status_code, Problem.NOT_READABLE).response(dict(exc.headers or {}))
