"""Verification by code: what its holder may learn, and that whoever guesses learns nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.simulators import issuer
from tools.simulators.registry import app
from tools.simulators.registry.store import CodeState
from tools.simulators.registry.tests.world import AUDIENCE, World, answer_to
from tools.simulators.registry.verification import RESULT_TYPE, RateLimit, Verification
from wire import cbor, cose, tracking_code
from wire.failures import Failure

CARD = issuer.personalise(7)
API = "/api/v1/verify"
UNKNOWN_CODE = tracking_code.make(bytes(16))


@pytest.fixture
async def public(world: World) -> AsyncIterator[httpx.AsyncClient]:
    verification = Verification(world.registry_store, world.registry_key, world.clock)
    limit = RateLimit(per_minute=1000, clients_max=4, now_ms=world.clock)
    transport = httpx.ASGITransport(app.public(verification, limit))
    async with httpx.AsyncClient(transport=transport, base_url="https://registry") as http:
        yield http


def asserted(world: World) -> tuple[str, bytes]:
    """A tracking code and its token."""
    request = world.terminal.challenge_request(CARD)
    answer = world.ask(answer_to(request, world.ask(request), world.terminal, CARD))
    assert answer.token is not None
    return answer.tracking_code, answer.token


async def ask(http: httpx.AsyncClient, **question: object) -> dict[str, Any]:
    response = await http.post(API, json=question)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.requirement("B6")
async def test_who_holds_code_and_audience_learns_what_became_of_it(world: World, public: httpx.AsyncClient) -> None:
    code, token = asserted(world)
    expected = {
        "code": code,
        "checked_at": "2026-11-21T08:30:00Z",
        "exists": True,
        "issued_at": "2026-11-21T08:30:00Z",
        "audience_class": "notary",
        "loa": 2,
        "state": "issued",
        "token_hash_matches": None,
    }
    assert (await ask(public, code=code, aud=AUDIENCE))["result"] == expected
    by_hash = await ask(public, code=code.lower().replace("-", " "), token_hash=hashlib.sha256(token).hexdigest())
    assert by_hash["result"] == {**expected, "token_hash_matches": True}
    world.clock.ms += 901_000
    assert (await ask(public, code=code, aud=AUDIENCE))["result"]["state"] == "expired"


@pytest.mark.requirement("B6")
async def test_the_answer_is_signed_by_the_registry(world: World, public: httpx.AsyncClient) -> None:
    code, _ = asserted(world)
    answer = await ask(public, code=code, aud=AUDIENCE)
    signed = base64.urlsafe_b64decode(answer["signed"])
    payload = cose.open_signed(signed, world.registry_key.public_key(), RESULT_TYPE)
    assert cbor.decode(payload, max_bytes=4096) == answer["result"]


@pytest.mark.requirement("B6")
async def test_a_wrong_audience_or_hash_answers_exactly_as_an_unknown_code(
    world: World, public: httpx.AsyncClient
) -> None:
    code, token = asserted(world)
    right_hash = hashlib.sha256(token).hexdigest()
    nothing = (await ask(public, code=UNKNOWN_CODE, aud=AUDIENCE))["result"]
    assert nothing["exists"] is False
    assert [value for name, value in nothing.items() if name not in ("code", "checked_at", "exists")] == [None] * 5
    for wrong in (
        {"aud": AUDIENCE + "1"},
        {"aud": AUDIENCE[:-1]},
        {"aud": "شعبه"},
        {"token_hash": "00" * 32},
        {"aud": AUDIENCE, "token_hash": "00" * 32},
        {"aud": "x", "token_hash": right_hash},
    ):
        assert (await ask(public, code=code, **wrong))["result"] == {**nothing, "code": code}


@pytest.mark.requirement("B6")
async def test_an_altered_code_is_told_apart_as_a_typing_mistake(world: World, public: httpx.AsyncClient) -> None:
    code, _ = asserted(world)
    for position, symbol in enumerate(code):
        if symbol == "-":
            continue
        other = next(s for s in tracking_code.ALPHABET if s != symbol)
        altered = code[:position] + other + code[position + 1 :]
        response = await public.post(API, json={"code": altered, "aud": AUDIENCE})
        assert response.status_code == 400
        assert response.json()["error"] == "typing_mistake"


@pytest.mark.requirement("B5")
async def test_the_code_of_a_refusal_can_be_verified_too(world: World, public: httpx.AsyncClient) -> None:
    request = world.terminal.challenge_request(CARD, min_loa=4)
    answer = world.ask(answer_to(request, world.ask(request), world.terminal, CARD))
    assert answer.failure is Failure.TOO_LITTLE_ASSURANCE
    result = (await ask(public, code=answer.tracking_code, aud=AUDIENCE))["result"]
    assert (result["exists"], result["state"], result["loa"]) == (True, "cancelled", None)


async def test_a_challenge_that_nobody_answered_expires(world: World, public: httpx.AsyncClient) -> None:
    code = world.ask(world.terminal.challenge_request(CARD)).tracking_code
    assert (await ask(public, code=code, aud=AUDIENCE))["result"]["state"] == "issued"
    world.clock.ms += 120_001
    assert (await ask(public, code=code, aud=AUDIENCE))["result"]["state"] == "expired"


async def test_nothing_that_is_stored_for_the_public_is_personal(world: World) -> None:
    code, _ = asserted(world)
    record = world.registry_store.code(code)
    assert record is not None
    text = repr(record)
    assert record.state is CodeState.ASSERTED
    for value in CARD.printed.values():
        assert value not in text


async def test_too_many_questions_wait_and_other_clients_do_not(world: World) -> None:
    limit = RateLimit(per_minute=3, clients_max=2, now_ms=world.clock)
    assert [limit.admit("a") for _ in range(4)] == [True, True, True, False]
    assert limit.admit("b")
    assert not limit.admit("c"), "the table of clients is bounded"
    world.clock.ms += 60_000
    assert limit.admit("a")
    assert limit.admit("c")


async def test_the_limit_holds_for_page_and_api_together(world: World) -> None:
    verification = Verification(world.registry_store, world.registry_key, world.clock)
    limit = RateLimit(per_minute=2, clients_max=2, now_ms=world.clock)
    transport = httpx.ASGITransport(app.public(verification, limit))
    question = {"code": UNKNOWN_CODE, "aud": AUDIENCE}
    async with httpx.AsyncClient(transport=transport, base_url="https://registry") as http:
        assert (await http.post(API, json=question)).status_code == 200
        assert (await http.post("/verify", data=question)).status_code == 200
        late = await http.post(API, json=question)
        assert (late.status_code, late.headers["retry-after"]) == (429, "60")
        assert (await http.post("/verify", data=question)).status_code == 429


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"code": 1}',
        b'{"code": "x"}',
        b'{"code": "\xff"}',
        b'{"code":"2222","aud":"x","more":1}',
        b" " * 4096,
    ],
)
async def test_what_is_no_question_is_refused(public: httpx.AsyncClient, body: bytes) -> None:
    response = await public.post(API, content=body)
    assert response.status_code == 400
    assert set(response.json()) == {"error", "fa", "en"}


@pytest.mark.requirement("B6")
async def test_the_page_is_persian_first_and_has_an_english_switch(world: World, public: httpx.AsyncClient) -> None:
    code, _ = asserted(world)
    page = (await public.get("/verify")).text
    assert '<html lang="fa" dir="rtl">' in page
    assert "اصالت‌سنجی کد رهگیری" in page
    english = (await public.get("/verify?lang=en")).text
    assert '<html lang="en" dir="ltr">' in english
    answered = (await public.post("/verify", data={"code": code, "aud": AUDIENCE})).text
    assert "دفتر اسناد رسمی" in answered
    assert "صادر شده" in answered
    assert "۱۴۰۵/۰۸/۳۰ ۱۲:۰۰" in answered
    assert "No such code" in (await public.post("/verify?lang=en", data={"code": code, "aud": "x"})).text
    mistyped = await public.post("/verify", data={"code": "2222-2222-2222-222Z", "aud": "x"})
    assert "نشانهٔ کنترلی" in mistyped.text
    assert "شناسهٔ دستگاه" in (await public.post("/verify", data={"code": UNKNOWN_CODE})).text


async def test_a_code_without_an_assertion_is_never_shown_as_good(world: World, public: httpx.AsyncClient) -> None:
    code, _ = asserted(world)
    open_code = world.ask(world.terminal.challenge_request(CARD)).tracking_code
    kinds = [
        "result good" in (await public.post("/verify", data={"code": each, "aud": AUDIENCE})).text
        for each in (code, open_code, UNKNOWN_CODE)
    ]
    assert kinds == [True, False, False]


async def test_the_page_needs_nothing_from_elsewhere_and_repeats_no_markup(public: httpx.AsyncClient) -> None:
    response = await public.post("/verify", data={"code": "<script>alert(1)</script>", "aud": '"><img src=x>'})
    assert "<script" not in response.text
    assert "<img" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "//" not in response.text.replace("<!doctype html>", "")
    style = (await public.get("/verify.css")).text
    assert "url(" not in style
    assert "@import" not in style


@given(body=st.binary(max_size=200))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_questions_never_crash_the_page_or_the_api(public: httpx.AsyncClient, body: bytes) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for path, content in (("/verify", body), ("/verify", b"code=" + body), (API, body), (API, b'{"code":"' + body)):
        response = await public.post(path, content=content, headers=form)
        assert response.status_code in (200, 400, 429)
