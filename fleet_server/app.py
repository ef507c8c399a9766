"""Wires the fleet server's web program: dashboard, JSON API, metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from fleet_server import db, queries
from fleet_server.config import Config
from fleet_server.dashboard import api, assets, live, metrics, pages
from fleet_server.dashboard.guard import Guard
from fleet_server.dashboard.render import Renderer
from fleet_server.dashboard.session import FormRefusedError, LoginNeededError, Sessions
from fleet_server.errors import ConfigError, RequestRefusedError
from fleet_server.queries import UnknownTerminalError

STATIC: Final = Path(__file__).parent / "dashboard" / "static"
LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


def system_now_ms() -> int:
    """The server's clock."""
    return time.time_ns() // 1_000_000


def create_app(config: Config, *, tls: bool = False, now_ms: Callable[[], int] = system_now_ms) -> FastAPI:
    """The web application. Its engine lives from start to shutdown (ASGI lifespan); nothing is opened before.

    Args:
        config: where the database is and where people reach the pages.
        tls: whether the listener speaks TLS; then cookies are Secure.
        now_ms: the server's clock.

    Raises:
        ConfigError: plain HTTP on anything but loopback: a session would cross the network in the clear.
    """
    if not tls and not _is_loopback(config.web.host):
        raise ConfigError([f"web.host: {config.web.host} is not loopback, and the web program speaks no TLS"])
    engine = db.open_engine(config.database)
    static = assets.load(STATIC)
    renderer = Renderer(static, now_ms)
    sessions = Sessions(engine, now_ms, tls=tls)
    pulse = live.Pulse(lambda: _version(engine))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await pulse.close()
        engine.dispose()

    app = FastAPI(
        title="Govah fleet API", version="1", description="The fleet of terminals, read-only.", lifespan=lifespan,
        openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.end_streams = pulse.close
    meter = metrics.Meter(engine, now_ms)
    streams = asyncio.Semaphore(live.MAX_STREAMS)
    parts = pages.Parts(engine, renderer, sessions, pulse, now_ms, streams)
    app.include_router(pages.router(parts))
    app.include_router(api.router(engine, sessions))
    app.include_router(assets.router(static))
    app.include_router(metrics.router(meter))
    _add_health(app, engine)
    _handle_refusals(app, renderer)
    app.add_middleware(Guard, allowed_hosts={*LOOPBACK_NAMES, *config.web.hosts}, tls=tls)
    app.add_middleware(metrics.Timed, latency=meter.latency)
    return app


def _version(engine: sa.Engine) -> int:
    with db.reading(engine) as connection:
        return queries.data_version(connection)


def _add_health(app: FastAPI, engine: sa.Engine) -> None:
    @app.get("/healthz", include_in_schema=False)
    def healthz() -> Response:
        """200 while the database can be read, so that a supervisor can tell."""
        try:
            _version(engine)
        except sa.exc.SQLAlchemyError:
            return JSONResponse({"status": "database unreadable"}, 503)
        return JSONResponse({"status": "ok"})


def _handle_refusals(app: FastAPI, renderer: Renderer) -> None:
    def answer(request: Request, status: int, reason: str, *, title: str, how: str) -> Response:
        """A page for people, a problem document below /api/."""
        if request.url.path.startswith(api.PREFIX):
            return api.problem(status, reason)
        return pages.message(renderer, request, status=status, title=title, how=how)

    @app.exception_handler(LoginNeededError)
    async def login_needed(request: Request, _: Exception) -> Response:
        return answer(request, 401, "login needed", title="login_needed", how="login_how")

    @app.exception_handler(FormRefusedError)
    async def form_refused(request: Request, _: Exception) -> Response:
        return answer(request, 403, "form refused", title="refused", how="refused_how")

    @app.exception_handler(UnknownTerminalError)
    async def unknown(request: Request, _: Exception) -> Response:
        return answer(request, 404, "no such terminal", title="not_found", how="not_found_how")

    @app.exception_handler(RequestRefusedError)
    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, _: Exception) -> Response:
        # the reason of a validation error repeats what was sent, so it is not passed on
        return answer(request, 422, "request refused", title="refused", how="refused_how")

    @app.exception_handler(HTTPException)
    async def http(request: Request, exc: HTTPException) -> Response:
        found = answer(request, exc.status_code, "not found", title="not_found", how="not_found_how")
        found.headers.update(exc.headers or {})
        return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
