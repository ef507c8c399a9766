"""The office API as an office's software meets it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from edge_agent.kiosk.app import create_app
from edge_agent.kiosk.config import KioskConfig, Office, Service
from edge_agent.kiosk.desk import Screen, Step
from edge_agent.kiosk.tests.fake_desk import BANK_TOKEN, CONFIG, NOTARY, NOTARY_TOKEN, NOW_MS, TOKEN, FakeDesk
from wire import inquiry
from wire.failures import Failure
from wire.messages import ReaderState

ASKED = {"service": "notary.deed", "act_reference": "1404/8812"}


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
async def office(desk: FakeDesk) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(desk, CONFIG))
    headers = {"Authorization": f"Bearer {NOTARY_TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8480", headers=headers) as client:
        yield client


async def test_a_visit_is_started_with_what_the_office_and_its_service_sheet_say(
    office: httpx.AsyncClient, desk: FakeDesk
) -> None:
    answer = await office.post("/api/v1/visits", json=ASKED, headers={"Idempotency-Key": "k-1"})
    assert answer.status_code == 201
    assert answer.json()["state"] == "waiting"
    [request] = desk.requests
    assert (request.audience, request.office_class, request.legal_basis) == (NOTARY.audience, "notary", "003/5")
    assert (request.min_loa, request.idempotency_key) == (2, "k-1")


async def test_the_result_lets_the_relying_party_recompute_the_transaction_hash(
    office: httpx.AsyncClient, desk: FakeDesk
) -> None:
    visit = (await office.post("/api/v1/visits", json=ASKED)).json()["id"]
    desk.finish(visit)
    answer = (await office.get(f"/api/v1/visits/{visit}", params={"wait_s": 30})).json()
    assert desk.waits == [30]
    assert base64.urlsafe_b64decode(answer["assertion"] + "==") == TOKEN
    given = answer["transaction"]
    salt = base64.urlsafe_b64decode(given["salt"] + "==")
    inquiry.transaction_hash(
        service=given["service"], audience=given["audience"], act_reference=given["act_reference"], salt=salt,
        at_ms=given["at_ms"],
    )  # fmt: skip
    assert salt == bytes(16)
    assert (answer["loa"], answer["tracking_code"], answer["failure"]) == (2, "7KQ2-M4XW-9TRC-H3VD", None)


@pytest.mark.requirement("A12")
async def test_no_office_sees_or_ends_a_visit_of_another(office: httpx.AsyncClient, desk: FakeDesk) -> None:
    visit = (await office.post("/api/v1/visits", json=ASKED)).json()["id"]
    other = {"Authorization": f"Bearer {BANK_TOKEN}"}
    assert (await office.get(f"/api/v1/visits/{visit}", headers=other)).status_code == 404
    assert (await office.delete(f"/api/v1/visits/{visit}", headers=other)).status_code == 404
    assert desk.screen().step is Step.WAITING_FOR_CARD


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", "Basic bm90YXJ5", f"bearer {NOTARY_TOKEN}x"])
@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/visits"), ("GET", "/visits/v1"), ("DELETE", "/visits/v1"), ("GET", "/status"),
])  # fmt: skip
async def test_without_an_office_token_nothing_is_answered(
    office: httpx.AsyncClient, header: str | None, method: str, path: str
) -> None:
    del office.headers["Authorization"]
    answer = await office.request(method, f"/api/v1{path}", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["name"] == "not_authorised"


@pytest.mark.requirement("D10")
@pytest.mark.parametrize("change", [
    {"act_reference": ""}, {"act_reference": "x" * 65}, {"act_reference": " padded "}, {"act_reference": "a\nb"},
    {"act_reference": "a\u202eb"}, {"act_reference": 5}, {"service": ""}, {"service": "a b"}, {"min_loa": 0},
    {"min_loa": 5}, {"min_loa": "2"}, {"national_number": "0011537027"},
])  # fmt: skip
async def test_a_request_beyond_the_technical_sheet_is_refused_without_repeating_its_values(
    office: httpx.AsyncClient, desk: FakeDesk, change: dict[str, object]
) -> None:
    answer = await office.post("/api/v1/visits", json={**ASKED, **change})
    assert answer.status_code == 422
    assert answer.json()["code"] == Failure.REQUEST_REFUSED
    assert answer.json()["fields"]
    assert "0011537027" not in answer.text
    assert desk.requests == []


async def test_an_unknown_service_and_a_level_below_the_services_are_refused(office: httpx.AsyncClient) -> None:
    unknown = await office.post("/api/v1/visits", json={**ASKED, "service": "bank.account"})
    assert (unknown.status_code, unknown.json()["name"]) == (422, "service_unknown")
    below = await office.post("/api/v1/visits", json={**ASKED, "min_loa": 1})
    assert (below.status_code, below.json()["name"]) == (422, "request_refused")


async def test_busy_is_a_conflict_and_a_blocked_terminal_unavailable_each_with_sentences_in_both_languages(
    office: httpx.AsyncClient, desk: FakeDesk
) -> None:
    await office.post("/api/v1/visits", json=ASKED)
    busy = await office.post("/api/v1/visits", json=ASKED)
    assert (busy.status_code, busy.json()["code"]) == (409, Failure.BUSY)
    await desk.show(Screen(Step.BLOCKED, NOW_MS, failure=Failure.JOURNAL_FULL, reasons=(Failure.JOURNAL_FULL,)))
    blocked = await office.post("/api/v1/visits", json=ASKED)
    assert (blocked.status_code, blocked.json()["code"]) == (503, Failure.JOURNAL_FULL)
    assert "دفتر رویدادها" in blocked.json()["fa"]
    assert "journal" in blocked.json()["en"]


async def test_status_names_every_reason_and_only_this_offices_services(
    office: httpx.AsyncClient, desk: FakeDesk
) -> None:
    reasons = (Failure.READER_ABSENT, Failure.CLOCK_NOT_TRUSTED)
    await desk.show(Screen(Step.BLOCKED, NOW_MS, ReaderState.NO_READER, failure=Failure.READER_ABSENT, reasons=reasons))
    status = (await office.get("/api/v1/status")).json()
    assert (status["ready"], status["busy"], status["reader"]) == (False, False, "no_reader")
    assert [reason["code"] for reason in status["blocked"]] == [43, 40]
    assert [service["id"] for service in status["services"]] == ["notary.deed", "notary.copy"]


async def test_a_cancelled_visit_says_so_and_an_unknown_one_is_not_found(office: httpx.AsyncClient) -> None:
    visit = (await office.post("/api/v1/visits", json=ASKED)).json()["id"]
    ended = await office.delete(f"/api/v1/visits/{visit}")
    assert (ended.json()["state"], ended.json()["failure"]["code"]) == ("failed", Failure.VISIT_CANCELLED)
    assert (await office.get("/api/v1/visits/nobody")).status_code == 404
    assert (await office.get("/api/v1/visits/a%20b")).status_code == 422


async def test_a_long_poll_is_answered_at_once_when_the_terminal_stops(desk: FakeDesk) -> None:
    app = create_app(desk, CONFIG)
    desk.patient = True
    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {NOTARY_TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8480", headers=headers) as client:
        visit = (await client.post("/api/v1/visits", json=ASKED)).json()["id"]
        poll = asyncio.ensure_future(client.get(f"/api/v1/visits/{visit}", params={"wait_s": 60}))
        await desk.looked_at.wait()
        app.state.closing.set()
        assert (await poll).json()["state"] == "waiting"


@pytest.mark.parametrize("wait_s", ["-1", "61", "nan", "inf", "x"])
async def test_a_long_poll_outside_its_bounds_is_refused(office: httpx.AsyncClient, wait_s: str) -> None:
    assert (await office.get("/api/v1/visits/v1", params={"wait_s": wait_s})).status_code == 422


async def test_a_body_beyond_the_limit_is_refused_unread(office: httpx.AsyncClient, desk: FakeDesk) -> None:
    answer = await office.post("/api/v1/visits", content=b"[" * 9000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["name"]) == (413, "too_large")


async def test_a_deeply_nested_body_is_a_refusal_and_no_crash(office: httpx.AsyncClient) -> None:
    answer = await office.post("/api/v1/visits", content=b"[" * 8000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["name"]) == (400, "not_readable")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1].evil"])
async def test_a_name_that_was_rebound_to_loopback_is_refused(office: httpx.AsyncClient, host: str) -> None:
    answer = await office.get("/api/v1/status", headers={"Host": host})
    assert (answer.status_code, answer.json()["name"]) == (421, "host_refused")


async def test_the_openapi_document_has_examples_and_names_every_refusal(office: httpx.AsyncClient) -> None:
    document = (await office.get("/api/v1/openapi.json")).json()
    assert set(document["paths"]) == {"/api/v1/visits", "/api/v1/visits/{visit}", "/api/v1/status"}
    assert document["components"]["schemas"]["VisitIn"]["examples"]
    assert {"201", "401", "409", "413", "422", "503"} <= set(document["paths"]["/api/v1/visits"]["post"]["responses"])


async def test_everything_wrong_with_a_configuration_is_said_at_once() -> None:
    bad = Office("a", "aud", "bank", b"short", (Service("s", "", "", 9, "b"),))
    with pytest.raises(ValueError, match=r"loopback.*token_sha256.*min_loa.*same token"):
        KioskConfig("t", (bad, bad), host="0.0.0.0")  # noqa: S104 the test is that it is refused
    assert KioskConfig("t", (replace(NOTARY),), host="::1").problems() == []
