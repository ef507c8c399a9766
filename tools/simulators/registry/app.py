"""The registry over HTTP: one listener for the exchange alone, one for whoever verifies a code."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from fastapi import FastAPI, Request, Response

from tools.simulators.party.body import BodyTooLongError, read_body
from tools.simulators.registry.office import Office
from tools.simulators.registry.operator import Misbehaviour
from tools.simulators.registry.page import Asked, Language, Page
from tools.simulators.registry.verification import (
    Question,
    QuestionRefusedError,
    RateLimit,
    TypingMistakeError,
    Verification,
)
from wire import fields
from wire.inquiry import MAX_ENVELOPE_BYTES, MEDIA_TYPE

_TIME_REQUEST_BYTES: Final = 64
_QUESTION_BYTES: Final = 2048
_HTML_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def exchange(office: Office, misbehaviour: Misbehaviour, *, delay_s: float) -> FastAPI:
    """What the exchange sees. The status is 200 for every answer; what the answer says is inside its signature."""
    app = FastAPI(title="Registry simulator", openapi_url=None)

    @app.post("/registry/v1/inquiries")
    async def inquire(request: Request) -> Response:
        try:
            data = await read_body(request, max_bytes=MAX_ENVELOPE_BYTES)
        except BodyTooLongError:
            return Response(status_code=413)
        await asyncio.sleep(delay_s)
        if await misbehaviour.before():
            return Response(status_code=503)
        return _opaque(misbehaviour.after(office.answer(data)))

    @app.post("/registry/v1/time")
    async def time(request: Request) -> Response:
        try:
            data = await read_body(request, max_bytes=_TIME_REQUEST_BYTES)
            if await misbehaviour.before():
                return Response(status_code=503)
            return _opaque(misbehaviour.after(office.time(data)))
        except (BodyTooLongError, fields.MessageRefusedError):
            return Response(status_code=400)

    return app


def public(verification: Verification, limit: RateLimit) -> FastAPI:
    """What anybody sees: the verification page and its API."""
    app = FastAPI(title="Registry simulator: verification by code", openapi_url=None)
    page = Page()

    @app.get("/verify")
    async def form(lang: str = "fa") -> Response:
        return _html(page.empty(_language(lang)))

    @app.get("/verify.css")
    async def style() -> Response:
        return Response(page.style, media_type="text/css")

    @app.post("/verify")
    async def ask(request: Request, lang: str = "fa") -> Response:
        language = _language(lang)
        try:
            asked = _form(await read_body(request, max_bytes=_QUESTION_BYTES))
            question = msgspec.convert(
                {"code": asked.code, "aud": asked.aud or None, "token_hash": asked.token_hash or None}, Question
            )
        except (BodyTooLongError, msgspec.ValidationError, ValueError):
            return _html(page.empty(language, message="typing_mistake"), 400)
        if not limit.admit(_client(request)):
            return _html(page.empty(language, asked, message="rate"), 429)
        try:
            return _html(page.answered(language, asked, verification.check(question)))
        except TypingMistakeError:
            return _html(page.empty(language, asked, message="typing_mistake"), 400)
        except QuestionRefusedError:
            return _html(page.empty(language, asked, message="need_one"), 400)

    @app.post("/api/v1/verify")
    async def verify(request: Request) -> Response:
        if not limit.admit(_client(request)):
            return _problem("too_many_questions", 429, headers={"retry-after": "60"})
        try:
            question = msgspec.json.decode(await read_body(request, max_bytes=_QUESTION_BYTES), type=Question)
            result = verification.check(question)
        except TypingMistakeError:
            return _problem("typing_mistake", 400)
        except (BodyTooLongError, msgspec.MsgspecError, UnicodeDecodeError, QuestionRefusedError):
            return _problem("question_refused", 400)
        signed = base64.urlsafe_b64encode(verification.sign(result)).decode()
        return _json({"result": msgspec.to_builtins(result), "signed": signed})

    return app


_PROBLEMS: Final = {
    "too_many_questions": ("پرسش‌ها از اندازه گذشت؛ یک دقیقه شکیبا باشید.", "Too many questions; wait a minute."),
    "typing_mistake": (
        "کد درست تایپ نشده است: یکی از نشانه‌ها با نشانهٔ کنترلی نمی‌خواند.",
        "The code is mistyped: a symbol does not fit the check symbol.",
    ),
    "question_refused": (
        "کد و یکی از این دو لازم است: aud یا token_hash.",
        "A code and one of aud and token_hash are needed.",
    ),
}


def _problem(name: str, status: int, headers: dict[str, str] | None = None) -> Response:
    fa, en = _PROBLEMS[name]
    return _json({"error": name, "fa": fa, "en": en}, status, headers)


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status_code=status, media_type="text/html; charset=utf-8", headers=_HTML_HEADERS)


def _opaque(answer: bytes | None) -> Response:
    return Response(status_code=504) if answer is None else Response(answer, media_type=MEDIA_TYPE)


def _form(body: bytes) -> Asked:
    """The posted form.

    Raises:
        ValueError: not one.
    """
    values = parse_qs(body.decode("ascii"), max_num_fields=8, errors="strict")
    return Asked(**{name: values.get(name, [""])[0].strip() for name in ("code", "aud", "token_hash")})


def _language(text: str) -> Language:
    return "en" if text == "en" else "fa"


def _client(request: Request) -> str:
    return request.client.host if request.client else ""
