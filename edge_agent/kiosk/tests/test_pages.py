"""The kiosk page: what each state says, what it must not keep, and who may post to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from edge_agent.kiosk import events, qr, words
from edge_agent.kiosk.app import create_app
from edge_agent.kiosk.assets import load
from edge_agent.kiosk.config import KioskConfig
from edge_agent.kiosk.desk import Screen, Step
from edge_agent.kiosk.pages import TEMPLATES, Pages
from edge_agent.kiosk.present import present
from edge_agent.kiosk.tests.fake_desk import CONFIG, HOLDER, NOTARY, NOW_MS, TOKEN, FakeDesk, every_screen
from edge_agent.kiosk.words import Lang
from wire.failures import SENTENCES, Failure

ORIGIN = "http://127.0.0.1:8480"
FORM = {"csrf": "word", "service": "notary.deed", "act_reference": "۱۴۰۴/۸۸۱۲", "min_loa": ""}


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
async def browser(desk: FakeDesk) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(desk, CONFIG, csrf=lambda: "word"))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN}) as client:
        yield client


@pytest.mark.requirement("C3")
@pytest.mark.parametrize("lang", ["fa", "en"])
@pytest.mark.parametrize("name", sorted(every_screen()))
def test_every_state_has_a_word_a_picture_and_a_next_step(name: str, lang: Lang) -> None:
    screen = every_screen()[name]
    shown = present(screen, CONFIG, lang)
    assert shown.word
    assert shown.next or shown.sentence or shown.reasons
    pages = Pages(FakeDesk(screen), CONFIG, load(TEMPLATES.parent / "static"), csrf="word", closing=asyncio.Event())
    html = pages.fragment(screen, lang)
    assert "<svg" in html
    assert f'"{shown.picture}"' in (TEMPLATES / "pictures.html").read_text("utf-8") or shown.picture == "cancelled"
    if lang == "fa":
        visible = re.sub(r"<[^>]*>|[A-Z0-9]{4}", "", html)
        assert not re.search("[0-9]", visible), "digits on display are Persian"


def test_every_failure_of_a_visit_and_every_block_has_a_look_of_its_own() -> None:
    shown_to_people = {failure for failure in Failure if 10 <= failure < 60}
    assert shown_to_people == set(words.FAILURES)
    assert len({look.word for failure, look in words.FAILURES.items() if failure < 40}) == sum(
        failure < 40 for failure in words.FAILURES
    )


def test_a_card_that_has_to_be_put_in_again_is_told_why_and_the_visit_goes_on() -> None:
    shown = present(every_screen()["again_mute"], CONFIG, "en")
    assert (shown.word, shown.sentence) == (words.AGAIN.en, SENTENCES[Failure.CARD_MUTE].en)
    assert (shown.busy, shown.may_start, shown.failure_code) == (True, False, Failure.CARD_MUTE)


def test_no_form_is_offered_while_something_keeps_a_visit_from_starting() -> None:
    ended = Screen(Step.FAILED, NOW_MS, failure=Failure.CARD_GONE)
    assert present(ended, CONFIG, "fa").may_start
    assert not present(replace(ended, reasons=(Failure.READER_ABSENT,)), CONFIG, "fa").may_start
    assert not present(every_screen()["blocked_all"], CONFIG, "fa").may_start


async def test_a_failure_that_came_later_than_the_page_is_still_shown(
    browser: httpx.AsyncClient, desk: FakeDesk
) -> None:
    await desk.show(Screen(Step.FAILED, NOW_MS, failure=Failure.COMMAND_EXPIRED))
    assert SENTENCES[Failure.COMMAND_EXPIRED].fa in (await browser.get("/")).text


async def test_the_page_is_persian_and_right_to_left_until_english_is_chosen_and_then_remembers(
    browser: httpx.AsyncClient,
) -> None:
    assert '<html lang="fa" dir="rtl">' in (await browser.get("/")).text
    assert '<html lang="en" dir="ltr">' in (await browser.get("/?lang=en")).text
    assert '<html lang="en" dir="ltr">' in (await browser.get("/")).text
    assert '<html lang="en" dir="ltr">' in (await browser.get("/?lang=xx")).text


async def test_nothing_that_the_counter_shows_is_kept_and_every_answer_has_the_headers(
    browser: httpx.AsyncClient, desk: FakeDesk
) -> None:
    await desk.show(every_screen()["done"])
    for path in ("/", "/nowhere", "/api/v1/status"):
        answer = await browser.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_page_needs_no_inline_script_and_no_inline_style(browser: httpx.AsyncClient, desk: FakeDesk) -> None:
    for screen in every_screen().values():
        await desk.show(screen)
        html = (await browser.get("/")).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", html)


async def test_static_files_are_kept_for_ever_under_the_hash_of_their_content(browser: httpx.AsyncClient) -> None:
    html = (await browser.get("/")).text
    for url in re.findall(r'(?:href|src)="(/static/[^"]+)"', html):
        answer = await browser.get(url)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert (await browser.get("/static/000000000000/kiosk.css")).status_code == 404
    version = re.search("/static/([0-9a-f]{12})/", html)
    assert version
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "nothing"):
        assert (await browser.get(f"/static/{version[1]}/{name}")).status_code == 404


def test_the_holders_name_is_shown_escaped_and_only_while_the_screen_has_it() -> None:
    pages = Pages(FakeDesk(), CONFIG, load(TEMPLATES.parent / "static"), csrf="word", closing=asyncio.Event())
    screens = every_screen()
    assert HOLDER in pages.fragment(screens["proving"], "fa")
    assert HOLDER not in pages.fragment(screens["done_card_gone"], "fa")
    nasty = Screen(
        Step.READING, NOW_MS, holder_name="<img src=x onerror=alert(1)>", act_reference='"><script>', service="<b>"
    )
    html = pages.fragment(nasty, "fa")
    assert "<img" not in html
    assert "<script" not in html
    assert "<b>&lt;" not in html.replace("<b><bdi>", "")


async def test_the_officer_starts_a_visit_by_hand_with_persian_digits_kept_as_ascii(
    browser: httpx.AsyncClient, desk: FakeDesk
) -> None:
    answer = await browser.post("/visits", data=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    [request] = desk.requests
    assert (request.audience, request.act_reference, request.min_loa) == (NOTARY.audience, "1404/8812", 2)


@pytest.mark.parametrize("change", [{"csrf": "other"}, {"csrf": ""}])
async def test_a_form_without_the_pages_word_starts_nothing(
    browser: httpx.AsyncClient, desk: FakeDesk, change: dict[str, str]
) -> None:
    assert (await browser.post("/visits", data={**FORM, **change})).status_code in {403, 422}
    assert desk.requests == []


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8480"])
async def test_a_form_from_another_origin_starts_nothing(
    browser: httpx.AsyncClient, desk: FakeDesk, origin: str
) -> None:
    for path, form in (("/visits", FORM), ("/visits/cancel", {"csrf": "word", "visit": "v1"})):
        assert (await browser.post(path, data=form, headers={"Origin": origin})).status_code == 403
    assert desk.requests == []


async def test_a_form_of_the_page_itself_passes_as_chromium_sends_it(
    browser: httpx.AsyncClient, desk: FakeDesk
) -> None:
    sent = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    assert (await browser.post("/visits", data=FORM, headers=sent)).status_code == 303
    for site in ("cross-site", "same-site", "none"):
        again = await browser.post("/visits/cancel", data=FORM, headers={"Sec-Fetch-Site": site})
        assert again.status_code in {403, 422}
    assert len(desk.requests) == 1


async def test_a_refused_form_says_why_on_the_page(browser: httpx.AsyncClient, desk: FakeDesk) -> None:
    await desk.show(Screen(Step.WAITING_FOR_CARD, NOW_MS, visit="v9"))
    busy = await browser.post("/visits", data=FORM)
    assert busy.status_code == 409
    assert SENTENCES[Failure.BUSY].fa in busy.text
    for reference in ("", "x" * 65, "a\u202eb"):
        assert (await browser.post("/visits", data={**FORM, "act_reference": reference})).status_code == 422


async def test_the_officer_ends_only_the_visit_that_is_on_the_screen(
    browser: httpx.AsyncClient, desk: FakeDesk
) -> None:
    await browser.post("/visits", data=FORM)
    await browser.post("/visits/cancel", data={"csrf": "word", "visit": "another"})
    assert desk.screen().step is Step.WAITING_FOR_CARD
    await browser.post("/visits/cancel", data={"csrf": "word", "visit": "v1"})
    assert desk.screen().failure is Failure.VISIT_CANCELLED


async def test_the_stream_begins_with_the_screen_of_now_follows_changes_beats_and_leaves_nothing_behind() -> None:
    desk, closing = FakeDesk(Screen(Step.READY, NOW_MS)), asyncio.Event()
    stream = events.stream(desk.screens(), lambda screen: screen.step.value, closing=closing, beat_s=0.01)
    async with aclosing(stream):
        assert await anext(stream) == b"event: screen\ndata: ready\n\n"
        assert await anext(stream) == events.BEAT
        await desk.show(Screen(Step.WAITING_FOR_CARD, NOW_MS))
        seen = [await anext(stream) for _ in range(3)]
        assert b"event: screen\ndata: waiting_for_card\n\n" in seen
        assert desk.readers == 1
        closing.set()
        assert [chunk async for chunk in stream if chunk != events.BEAT] == []
    assert desk.readers == 0


def test_every_line_of_an_event_is_a_field_so_that_data_cannot_start_another_event() -> None:
    assert (
        events.event("screen", "a\n\nevent: x\r\nb") == b"event: screen\ndata: a\ndata: \ndata: event: x\ndata: b\n\n"
    )


def test_the_qr_code_holds_the_token_as_text_and_stays_small_enough_for_a_phone() -> None:
    text = qr.code_text(TOKEN)
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    drawn = re.search(r'viewBox="0 0 (\d+)', qr.svg(TOKEN, "<title>"))
    assert drawn
    assert int(drawn[1]) <= 117, "version 25 at most: three pixels a module on the counter's screen"
    assert "<title><title>" not in qr.svg(TOKEN, "<title>")


def test_a_service_that_the_configuration_no_longer_has_is_shown_by_its_id() -> None:
    config = KioskConfig("t", (NOTARY,))
    assert present(Screen(Step.READING, NOW_MS, service="gone.service"), config, "fa").service == "gone.service"
