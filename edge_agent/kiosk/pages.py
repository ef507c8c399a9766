"""The kiosk page: one screen that follows the station, and a form with which the officer starts a visit by hand."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edge_agent.kiosk import events, jalali, words
from edge_agent.kiosk.api import ApiError, printable, request_visit
from edge_agent.kiosk.assets import Assets
from edge_agent.kiosk.config import KioskConfig
from edge_agent.kiosk.desk import BUSY_STEPS, Desk, Screen, VisitRefusedError
from edge_agent.kiosk.present import present
from edge_agent.kiosk.problems import Problem, status_of
from edge_agent.kiosk.words import LANGS, Lang, pick
from wire.failures import SENTENCES, Failure, Sentence

LANG_COOKIE: Final = "govah_lang"
LANG_KEPT_S: Final = 365 * 24 * 3600
MAX_STREAMS: Final = 16
"""Open pages at the same time; the counter needs two."""

TEMPLATES: Final = Path(__file__).parent / "templates"


class Pages:
    """Renders the page.

    `csrf` is a random word that only this process's own pages know; `closing` is set when the process stops.
    """

    def __init__(self, desk: Desk, config: KioskConfig, assets: Assets, *, csrf: str, closing: asyncio.Event) -> None:
        self.desk = desk
        self.config = config
        self.csrf = csrf
        self.closing = closing
        self.streams = asyncio.Semaphore(MAX_STREAMS)
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.globals["asset"] = assets.url

    def page(self, lang: Lang, *, status: int = 200, refusal: Sentence | None = None) -> HTMLResponse:
        """The whole page with the screen of now, and why a form was refused."""
        other = next(each for each in LANGS if each != lang)
        html = self._render(
            "page.html",
            lang,
            shown=present(self.desk.screen(), self.config, lang),
            office=self.config.offices[0],
            terminal=self.config.terminal,
            today=jalali.day(time.time_ns() // 1_000_000, lang),
            other=other,
            refusal=pick(refusal, lang) if refusal else None,
            levels=words.LEVELS,
        )
        answer = HTMLResponse(html, status)
        answer.set_cookie(LANG_COOKIE, lang, max_age=LANG_KEPT_S, samesite="strict", httponly=True)
        return answer

    def fragment(self, screen: Screen, lang: Lang) -> str:
        """Only the part of the page that changes."""
        return self._render("screen.html", lang, shown=present(screen, self.config, lang))

    def _render(self, name: str, lang: Lang, **values: Any) -> str:
        return self._templates.get_template(name).render(
            lang=lang,
            direction="rtl" if lang == "fa" else "ltr",
            t=lambda key: pick(words.TEXT[key], lang),
            pick=lambda sentence: pick(sentence, lang),
            num=lambda value: jalali.digits(value, lang),
            csrf=self.csrf,
            **values,
        )

    async def stream(self, lang: Lang) -> AsyncGenerator[bytes, None]:
        """The events of one open page."""
        async with self.streams:
            chunks = events.stream(
                self.desk.screens(), lambda screen: self.fragment(screen, lang), closing=self.closing
            )
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk


def language(request: Request) -> Lang:
    """What the address asks for, else what the cookie remembers, else Persian."""
    for wanted in (request.query_params.get("lang"), request.cookies.get(LANG_COOKIE)):
        for lang in LANGS:
            if wanted == lang:
                return lang
    return "fa"


def own_form(request: Request, given: str, csrf: str) -> None:
    """Lets only the page's own forms pass.

    Under ``Referrer-Policy: no-referrer`` browsers send ``Origin: null`` with a form of our own (Fetch, section 3.2),
    so then Sec-Fetch-Site has to say that it is.

    Raises:
        ApiError: another origin, or another word than the page's.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers['host']}"
    same_origin = site in {None, "same-origin"} and (
        origin in {None, own} or (origin == "null" and site == "same-origin")
    )
    if not same_origin or not hmac.compare_digest(given.encode(), csrf.encode()):
        raise ApiError(Problem.ORIGIN_REFUSED.response())


def router(pages: Pages) -> APIRouter:
    """The routes of the page."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    desk = pages.desk

    @routes.get("/")
    async def page(request: Request) -> Response:
        return pages.page(language(request))

    @routes.get("/events")
    async def follow(request: Request) -> Response:
        if pages.streams.locked():
            return Problem.TOO_MANY.response({"Retry-After": "5"})
        return StreamingResponse(pages.stream(language(request)), media_type="text/event-stream")

    @routes.post("/visits")
    async def start(
        request: Request,
        csrf: Annotated[str, Form(max_length=128)],
        service: Annotated[str, Form(max_length=64)],
        act_reference: Annotated[str, Form(max_length=256)],
        min_loa: Annotated[str, Form(max_length=1, pattern="^[1-4]?$")] = "",
    ) -> Response:
        own_form(request, csrf, pages.csrf)
        lang = language(request)
        try:
            reference = typed_reference(act_reference)
            level = int(min_loa) if min_loa else None
            office = pages.config.offices[0]
            await request_visit(desk, office, service_id=service, act_reference=reference, min_loa=level)
        except VisitRefusedError as exc:
            return pages.page(lang, status=status_of(exc.failure), refusal=SENTENCES[exc.failure])
        return RedirectResponse("/", 303)

    @routes.post("/visits/cancel")
    async def cancel(
        request: Request, csrf: Annotated[str, Form(max_length=128)], visit: Annotated[str, Form(max_length=64)]
    ) -> Response:
        own_form(request, csrf, pages.csrf)
        # a visit that ended meanwhile stays as it is: the page shows what became of it
        if desk.screen().visit == visit and desk.screen().step in BUSY_STEPS:
            await desk.cancel(visit, audience=None)
        return RedirectResponse("/", 303)

    return routes


def typed_reference(text: str) -> str:
    """What the officer typed, as it is stored: ASCII digits, no blanks at the ends.

    Raises:
        VisitRefusedError: empty, longer than 64, or not printable.
    """
    reference = jalali.ascii_digits(text.strip())
    try:
        printable(reference)
    except ValueError as exc:
        raise VisitRefusedError(Failure.REQUEST_REFUSED) from exc
    if not 1 <= len(reference) <= 64:
        raise VisitRefusedError(Failure.REQUEST_REFUSED)
    return reference
