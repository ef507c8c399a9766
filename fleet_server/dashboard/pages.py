"""The two pages, terminals and one terminal, with their live streams; login and logout."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from fleet_server import admin, db, ids, queries
from fleet_server.dashboard import live
from fleet_server.dashboard.queries import Detail, clean_prefix, find_terminals, read_detail
from fleet_server.dashboard.render import Renderer
from fleet_server.dashboard.session import Sessions, form_word, own_form
from fleet_server.dashboard.words import LANGS, PRESENCE, Lang

LANG_COOKIE: Final = "govah_lang"
LANG_KEPT_S: Final = 365 * 24 * 3600
_DETAIL_PARTS: Final = ("head", "health", "certificate", "facts", "timeline")
Fragments = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pages are made with."""

    engine: sa.Engine
    renderer: Renderer
    sessions: Sessions
    pulse: live.Pulse
    now_ms: Callable[[], int]
    streams: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class Filter:
    """Which terminals a page shows."""

    q: str = ""
    after: str = ""
    presence: str | None = None

    def query(self, **change: str | None) -> str:
        """This filter as a query string, with some of it changed."""
        values = {"q": self.q, "after": self.after, "presence": self.presence} | change
        return urlencode({name: value for name, value in values.items() if value})


def filter_of(request: Request) -> Filter:
    """The filter in the address; what cannot be one is left out."""
    given = request.query_params
    presence = given.get("presence")
    return Filter(
        q=clean_prefix(given.get("q", "")),
        after=clean_prefix(given.get("after", "")),
        presence=presence if presence in PRESENCE else None,
    )


def language(request: Request) -> Lang:
    """What the address asks for, else what the cookie remembers, else Persian."""
    for wanted in (request.query_params.get("lang"), request.cookies.get(LANG_COOKIE)):
        for lang in LANGS:
            if wanted == lang:
                return lang
    return "fa"


def page_answer(html: str, lang: Lang, *, status: int = 200) -> HTMLResponse:
    """The page, remembering its language."""
    answer = HTMLResponse(html, status)
    answer.set_cookie(LANG_COOKIE, lang, max_age=LANG_KEPT_S, samesite="lax", httponly=True)
    return answer


def message(renderer: Renderer, request: Request, *, status: int, title: str, how: str) -> HTMLResponse:
    """A page that only says something: `title` and `how` are keys of the page's texts."""
    lang = language(request)
    return HTMLResponse(renderer.html("message.html", lang, title=title, how=how), status)


def router(parts: Parts) -> APIRouter:
    """The routes of the pages."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_pages(routes, parts)
    _add_streams(routes, parts)
    _add_session(routes, parts)
    return routes


def _add_pages(routes: APIRouter, parts: Parts) -> None:
    sessions, renderer = parts.sessions, parts.renderer

    @routes.get("/")
    def terminals(request: Request) -> Response:
        token = sessions.check(request)
        lang, chosen = language(request), filter_of(request)
        html = renderer.html(
            "terminals.html", lang, csrf=form_word(token), chosen=chosen, path="/", **_terminals_values(parts, chosen)
        )
        return page_answer(html, lang)

    @routes.get("/terminals/{serial}")
    def one_terminal(request: Request, serial: str) -> Response:
        token = sessions.check(request)
        lang = language(request)
        detail = _read(parts.engine, serial)
        html = renderer.html(
            "terminal.html", lang, csrf=form_word(token), detail=detail, path=f"/terminals/{detail.terminal.serial}"
        )
        return page_answer(html, lang)

    @routes.post("/terminals/{serial}/health")
    def ask_health(request: Request, serial: str, csrf: Annotated[str, Form(max_length=128)]) -> Response:
        own_form(request, csrf, sessions.check(request))
        now_ms = parts.now_ms()
        with db.writing(parts.engine) as connection:
            new_id = ids.uuid7(now_ms, 0, os.urandom(ids.ENTROPY_BYTES))
            queries.request_health(connection, serial, command_id=new_id, now_ms=now_ms)
        if request.headers.get("hx-request") == "true":
            return Response(status_code=204)
        return RedirectResponse(f"/terminals/{serial}", 303)


def _add_streams(routes: APIRouter, parts: Parts) -> None:
    async def follow(request: Request, render: Callable[[Lang], Fragments]) -> Response:
        token = await asyncio.to_thread(parts.sessions.check, request)
        if parts.streams.locked():
            return Response(status_code=503, headers={"Retry-After": "5"})
        lang = language(request)

        def render_while_valid() -> Fragments | None:
            return render(lang) if parts.sessions.valid(token) else None

        return StreamingResponse(_counted(parts, render_while_valid), media_type="text/event-stream")

    @routes.get("/events/terminals")
    async def follow_terminals(request: Request) -> Response:
        chosen = filter_of(request)
        return await follow(request, lambda lang: _terminals_fragments(parts, chosen, lang))

    @routes.get("/events/terminals/{serial}")
    async def follow_terminal(request: Request, serial: str) -> Response:
        await asyncio.to_thread(parts.sessions.check, request)
        # a stream says 200 before it looks; who is not there must be said before
        await asyncio.to_thread(_read, parts.engine, serial)
        return await follow(request, lambda lang: _terminal_fragments(parts, serial, lang))


def _add_session(routes: APIRouter, parts: Parts) -> None:
    sessions, renderer = parts.sessions, parts.renderer

    @routes.get(admin.LOGIN_PATH + "{link}")
    def login(request: Request, link: str) -> Response:
        token = sessions.open(link)
        if token is None:
            return message(renderer, request, status=404, title="not_found", how="not_found_how")
        answer = RedirectResponse("/", 303)
        sessions.give(answer, token)
        return answer

    @routes.post("/logout")
    def logout(request: Request, csrf: Annotated[str, Form(max_length=128)]) -> Response:
        token = sessions.check(request)
        own_form(request, csrf, token)
        sessions.end(token)
        answer = message(renderer, request, status=200, title="logged_out", how="login_how")
        sessions.take(answer)
        return answer


async def _counted(parts: Parts, render: Callable[[], Fragments | None]) -> AsyncGenerator[bytes, None]:
    async with parts.streams:
        chunks = live.stream(parts.pulse, render)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def _terminals_values(parts: Parts, chosen: Filter) -> dict[str, object]:
    with db.reading(parts.engine) as connection:
        return {
            "page": find_terminals(connection, prefix=chosen.q, after=chosen.after, presence=chosen.presence),
            "numbers": queries.numbers(connection, now_ms=parts.now_ms()),
        }


def _terminals_fragments(parts: Parts, chosen: Filter, lang: Lang) -> Fragments:
    values = _terminals_values(parts, chosen)
    return [
        (name, parts.renderer.html(f"part_{name}.html", lang, chosen=chosen, **values)) for name in ("summary", "rows")
    ]


def _read(engine: sa.Engine, serial: str) -> Detail:
    with db.reading(engine) as connection:
        return read_detail(connection, serial)


def _terminal_fragments(parts: Parts, serial: str, lang: Lang) -> Fragments:
    detail = _read(parts.engine, serial)
    return [(name, parts.renderer.html(f"part_{name}.html", lang, detail=detail)) for name in _DETAIL_PARTS]


def login_needed(renderer: Renderer, request: Request) -> HTMLResponse:
    """What somebody without a session sees on a page."""
    return message(renderer, request, status=401, title="login_needed", how="login_how")
