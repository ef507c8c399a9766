"""The dashboard, its API and its metrics as a browser and a program meet them."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from fleet_server import admin, db
from fleet_server.app import create_app
from fleet_server.config import Config, WebConfig
from fleet_server.dashboard import live
from fleet_server.dashboard.queries import clean_prefix, find_terminals
from fleet_server.dashboard.session import form_word
from fleet_server.dashboard.tests import sample
from fleet_server.dashboard.tests.sample import BLOCKED, BUSY, LINK, LOST, NEVER, NOW_MS
from fleet_server.errors import ConfigError

ORIGIN = "http://127.0.0.1:8000"


@dataclasses.dataclass
class Clock:
    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def app(config: Config, clock: Clock) -> AsyncIterator[FastAPI]:
    app = create_app(config, now_ms=clock)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ORIGIN) as client:
        yield client


@pytest.fixture
async def admin_browser(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    answer = await stranger.get(f"/login/{LINK}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return stranger


def word_of(client: httpx.AsyncClient) -> str:
    return form_word(client.cookies["govah_session"])


async def test_a_login_link_opens_once_and_is_not_found_for_ever_after(stranger: httpx.AsyncClient) -> None:
    first = await stranger.get(f"/login/{LINK}")
    assert first.status_code == 303
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    for path in (LINK, "guess", "x" * 500, "%00"):
        assert (await stranger.get(f"/login/{path}")).status_code == 404
    stranger.cookies.clear()
    assert (await stranger.get(f"/login/{LINK}")).status_code == 404


async def test_of_many_concurrent_logins_with_one_link_exactly_one_succeeds(app: FastAPI) -> None:
    async def login() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ORIGIN) as client:
            return (await client.get(f"/login/{LINK}")).status_code

    answers = await asyncio.gather(*(login() for _ in range(20)))
    assert sorted(answers) == [303] + [404] * 19


async def test_a_used_link_stays_dead_after_a_restart_and_an_old_one_is_dead_unused(
    config: Config, clock: Clock, admin_browser: httpx.AsyncClient
) -> None:
    engine = db.open_engine(config.database)
    with db.writing(engine) as connection:
        admin.add_link(connection, "old", now_ms=NOW_MS - admin.LINK_LIFE_MS)
    engine.dispose()
    again = create_app(config, now_ms=clock)
    async with again.router.lifespan_context(again):
        transport = httpx.ASGITransport(app=again)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, cookies=admin_browser.cookies) as client:
            assert (await client.get(f"/login/{LINK}")).status_code == 404
            assert (await client.get("/login/old")).status_code == 404
            assert (await client.get("/")).status_code == 200


async def test_every_route_but_the_open_ones_needs_a_session(app: FastAPI, stranger: httpx.AsyncClient) -> None:
    open_routes = {"/login/{link}", "/healthz", "/metrics", "/static/{version}/{name:path}", "/api/v1/openapi.json"}
    document = app.openapi()["paths"]
    pages = {"/", "/terminals/{serial}", "/terminals/{serial}/health", "/events/terminals", "/logout"}
    asked = 0
    for path in sorted({*pages, "/events/terminals/{serial}", *document} - open_routes):
        for method in ("GET", "POST"):
            answer = await stranger.request(
                method, path.replace("{serial}", BUSY), data={"csrf": "x"} if method == "POST" else None
            )
            assert answer.status_code in {401, 404, 405}, (method, path)
            assert BUSY not in answer.text
            asked += answer.status_code == 401
    assert asked == 8


async def test_a_session_ends_with_logout_everywhere_and_with_time(
    admin_browser: httpx.AsyncClient, clock: Clock
) -> None:
    kept = httpx.Cookies(admin_browser.cookies)
    assert (await admin_browser.get("/")).status_code == 200
    clock.now_ms += admin.SESSION_LIFE_MS - 1
    assert (await admin_browser.get("/")).status_code == 200
    answer = await admin_browser.post("/logout", data={"csrf": word_of(admin_browser)})
    assert answer.status_code == 200
    admin_browser.cookies = kept
    assert (await admin_browser.get("/")).status_code == 401


async def test_an_expired_session_is_no_session(admin_browser: httpx.AsyncClient, clock: Clock) -> None:
    clock.now_ms += admin.SESSION_LIFE_MS
    assert (await admin_browser.get("/")).status_code == 401
    assert (await admin_browser.get("/api/v1/terminals")).json()["title"] == "login needed"


@pytest.mark.parametrize("headers", [
    {}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
])  # fmt: skip
async def test_a_form_from_elsewhere_or_without_the_sessions_word_changes_nothing(
    admin_browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    word = word_of(admin_browser) if headers else "wrong"
    for path in (f"/terminals/{NEVER}/health", "/logout"):
        assert (await admin_browser.post(path, data={"csrf": word}, headers=headers)).status_code == 403
    detail = (await admin_browser.get(f"/api/v1/terminals/{NEVER}")).json()
    assert detail["commands"] == []


async def test_asking_for_health_puts_one_command_in_the_outbox_however_often_it_is_clicked(
    admin_browser: httpx.AsyncClient,
) -> None:
    sent = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    for _ in range(3):
        answer = await admin_browser.post(
            f"/terminals/{NEVER}/health", data={"csrf": word_of(admin_browser)}, headers=sent
        )
        assert (answer.status_code, answer.headers["location"]) == (303, f"/terminals/{NEVER}")
    [command] = (await admin_browser.get(f"/api/v1/terminals/{NEVER}")).json()["commands"]
    assert (command["kind"], command["result"]) == ("report_health", None)
    unknown = await admin_browser.post("/terminals/nobody/health", data={"csrf": word_of(admin_browser)})
    assert unknown.status_code == 404


async def test_the_list_says_presence_reader_and_reasons_in_persian_and_english(
    admin_browser: httpx.AsyncClient,
) -> None:
    persian = (await admin_browser.get("/")).text
    assert '<html lang="fa" dir="rtl">' in persian
    for word in ("برخط", "بی‌خبر", "خاموش‌شده", "هنوز نیامده", "کارتخوان نیست", "ساعت نامطمئن", "۴۱ ثانیه پیش"):
        assert word in persian
    english = (await admin_browser.get("/?lang=en")).text
    for word in ("Online", "Lost", "Shut down", "Never seen", "No reader", "Clock not trusted", "41 s ago"):
        assert word in english
    assert 'lang="en"' in (await admin_browser.get("/")).text


async def test_one_terminal_shows_certificate_facts_and_timeline_with_jalali_dates(
    admin_browser: httpx.AsyncClient,
) -> None:
    page = (await admin_browser.get(f"/terminals/{BUSY}")).text
    for word in ("معتبر", "۸۲ روز مانده", "۱۴۰۴/۰۹/۰۱", "گواهی صادر شد", "notary.deed", "0.0.9", "7f7f7f7f"):
        assert word in page
    assert "باطل‌شده" in (await admin_browser.get(f"/terminals/{LOST}")).text
    assert (await admin_browser.get("/terminals/nobody")).status_code == 404


async def test_pages_follow_each_other_by_key_and_search_is_by_prefix(config: Config) -> None:
    engine = db.open_engine(config.database)
    with db.writing(engine) as connection:
        for serial in ("ab", "ab-1", "ab0", "abz", "ac", "a", "aa-zz"):
            sample.add_terminal(connection, serial, NOW_MS)
    with db.reading(engine) as connection:
        seen: list[str] = []
        after = ""
        while True:
            page = find_terminals(connection, prefix="ab", after=after, limit=2)
            seen += [terminal.serial for terminal in page.items]
            if page.next_after is None:
                break
            after = page.next_after
        assert seen == ["ab", "ab-1", "ab0", "abz"]
        assert find_terminals(connection, prefix="zz").items == []
        whole = find_terminals(connection, limit=10**9)
        assert len(whole.items) == 12
        lost = find_terminals(connection, presence="lost")
        assert [terminal.serial for terminal in lost.items] == [LOST]
    engine.dispose()
    assert clean_prefix(" THR-04'; --\u202e") == "thr-04--"


async def test_the_api_gives_the_same_facts_and_its_document_has_examples(admin_browser: httpx.AsyncClient) -> None:
    page = (await admin_browser.get("/api/v1/terminals", params={"limit": 2})).json()
    assert [item["serial"] for item in page["items"]] == [BLOCKED, LOST]
    assert page["items"][0]["blocked"] == ["reader_absent", "clock_not_trusted"]
    rest = (await admin_browser.get("/api/v1/terminals", params={"after": page["next_after"]})).json()
    assert (len(rest["items"]), rest["next_after"]) == (3, None)
    detail = (await admin_browser.get(f"/api/v1/terminals/{BUSY}")).json()
    assert (detail["facts_count"], len(detail["facts"]), detail["journals"][0]["stored_through"]) == (6, 6, 6)
    assert {fact["outcome"] for fact in detail["facts"]} == {None, "none", "card_gone", "registry_unreachable"}
    for bad in ("/api/v1/terminals?limit=0", "/api/v1/terminals?q=%25", "/api/v1/terminals/A%2FB?x"):
        answer = await admin_browser.get(bad)
        assert answer.status_code in {404, 422}
        assert answer.headers["content-type"] == "application/problem+json"
    document = (await admin_browser.get("/api/v1/openapi.json")).json()
    assert set(document["paths"]) == {"/api/v1/terminals", "/api/v1/terminals/{serial}"}
    assert document["components"]["schemas"]["TerminalOut"]["examples"]


async def test_metrics_speak_of_the_fleet_and_never_of_an_address(admin_browser: httpx.AsyncClient) -> None:
    await admin_browser.get("/login/secret-guess")
    text = (await admin_browser.get("/metrics")).text
    for line in (
        'govah_terminals{presence="online"} 2.0', 'govah_terminals{presence="lost"} 1.0',
        'govah_anomalies{kind="fact_conflict"} 1.0', "govah_facts_stored 6.0", "govah_newest_message_age_seconds 2.0",
    ):  # fmt: skip
        assert line in text
    assert 'govah_http_request_seconds_count{method="GET",route="/login/{link}",status="404"} 1.0' in text
    assert "secret-guess" not in text
    assert BUSY not in text


async def test_the_pages_answer_to_the_configured_names_and_addresses_and_to_no_other(config: Config) -> None:
    web = dataclasses.replace(config.web, host="2001:db8::7", names=("Fleet.example", "2001:db8::8"))
    app = create_app(dataclasses.replace(config, web=web), tls=True)
    answers = {}
    async with app.router.lifespan_context(app):
        for host in ("fleet.example", "FLEET.example:8443", "[2001:db8::7]", "[2001:db8::8]:1", "evil.example"):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://x") as client:
                answers[host] = (await client.get("/healthz", headers={"Host": host})).status_code
    assert answers.pop("evil.example") == 421
    assert set(answers.values()) == {200}


async def test_metrics_are_for_this_machine_only(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_health_of_the_program_is_the_health_of_its_database(stranger: httpx.AsyncClient, config: Config) -> None:
    assert (await stranger.get("/healthz")).json() == {"status": "ok"}
    engine = db.open_engine(config.database)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE revision"))
    engine.dispose()
    assert (await stranger.get("/healthz")).status_code == 503


def test_plain_http_beyond_loopback_is_refused_and_tls_makes_the_cookie_secure(config: Config) -> None:
    outside = dataclasses.replace(config, web=WebConfig(port=8000, host="0.0.0.0"))  # noqa: S104 it is refused
    with pytest.raises(ConfigError, match="not loopback"):
        create_app(outside)
    assert create_app(outside, tls=True)


async def test_over_tls_the_session_cookie_is_secure_and_bound_to_the_host(config: Config, clock: Clock) -> None:
    app = create_app(config, tls=True, now_ms=clock)
    async with app.router.lifespan_context(app):
        base = "https://127.0.0.1:8000"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base) as client:
            answer = await client.get(f"/login/{LINK}")
            assert "strict-transport-security" in answer.headers
            assert re.search("__Host-govah_session=.*Secure", answer.headers["set-cookie"])


@pytest.mark.parametrize("path", ["/", f"/terminals/{BUSY}", "/nowhere", "/api/v1/terminals", "/login/x"])
async def test_every_answer_has_the_headers_and_no_page_needs_inline_code(
    admin_browser: httpx.AsyncClient, path: str
) -> None:
    answer = await admin_browser.get(path)
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", answer.text)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
async def test_another_host_name_is_refused(stranger: httpx.AsyncClient, host: str) -> None:
    assert (await stranger.get("/healthz", headers={"Host": host})).status_code == 421


async def test_a_long_body_and_a_long_address_are_refused(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.post("/logout", content=b"x" * 9000)).status_code == 413
    assert (await stranger.get("/?q=" + "x" * 3000)).status_code == 414


async def test_a_live_page_sends_what_changed_beats_between_and_ends_with_its_session() -> None:
    version = 1
    shown: dict[str, str] | None = {"rows": "a", "summary": "s"}
    pulse = live.Pulse(lambda: version, poll_s=0.001)
    stream = live.stream(pulse, lambda: None if shown is None else list(shown.items()), beat_s=0.02)
    async with aclosing(stream):
        first = {await anext(stream), await anext(stream)}
        assert first == {b"event: rows\ndata: a\n\n", b"event: summary\ndata: s\n\n"}
        assert await anext(stream) == live.BEAT
        shown = {"rows": "b", "summary": "s"}
        version = 2
        seen = [await anext(stream) for _ in range(3)]
        assert seen.count(b"event: rows\ndata: b\n\n") == 1
        assert b"event: summary\ndata: s\n\n" not in seen
        shown = None
        assert [chunk async for chunk in stream if chunk != live.BEAT] == []
    await pulse.close()


async def test_a_live_page_of_an_unknown_terminal_is_not_found(admin_browser: httpx.AsyncClient) -> None:
    assert (await admin_browser.get("/events/terminals/nobody")).status_code == 404


async def test_a_live_page_ends_when_the_program_stops() -> None:
    pulse = live.Pulse(lambda: 1, poll_s=0.001)
    stream = live.stream(pulse, lambda: [("rows", "a")], beat_s=60)
    async with aclosing(stream):
        await anext(stream)
        await pulse.close()
        assert [chunk async for chunk in stream] == []


async def test_a_database_that_cannot_be_read_for_a_moment_does_not_end_the_pulse() -> None:
    looks: list[int] = []

    def read() -> int:
        looks.append(7)
        if len(looks) == 1:
            raise sa.exc.OperationalError("", {}, Exception())
        return looks[-1]

    pulse = live.Pulse(read, poll_s=0.001)
    assert await pulse.newer_than(-1, within_s=5) == 7
    await pulse.close()
