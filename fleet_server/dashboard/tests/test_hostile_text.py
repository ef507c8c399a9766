"""Test S31: whatever a terminal says of itself is shown as text on every page, and can neither run nor reorder it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from fleet_server import db
from fleet_server.app import create_app
from fleet_server.config import Config
from fleet_server.dashboard.tests import sample
from fleet_server.dashboard.tests.sample import JOURNAL, LINK, NOW_MS
from wire.failures import Failure
from wire.messages import Fact, FactKind

FACT_MAY_SAY = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{1,64}")
"""Facts are stored as the bytes that `wire` took; the columns of a terminal are tried with everything."""
PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "${7*7}#{7*7}",
    "</title></table><h1>gone",
    "<!--",
    "]]><x>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202egnp.exe\u2066",
    "a\r\nevent: rows\r\ndata: forged\r\n\r\n",
    "data: x\n\nevent: head\ndata: forged",
    "\x00\x1b[31mred\x07",
    "<a hx-get=/logout hx-trigger=load>x",
    '" hx-on:click="alert(1)" autofocus onfocus="alert(1)',
    "=cmd|' /C calc'!A0",
    "A" * 64,
    "\u200b\u200d\ufeff",
)


class Outline(HTMLParser):
    """The elements and attribute names of a page, without its text."""

    def __init__(self) -> None:
        super().__init__()
        self.shape: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.shape.append((f"/{tag}", ()))


def outline(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Outline()
    parser.feed(page)
    parser.close()
    return parser.shape


def put(connection: sa.Connection, serial: str, text: str) -> None:
    """A terminal that says `text` wherever a terminal can say anything."""
    sample.add_terminal(connection, serial, NOW_MS, agent=text[:64], profile=text[:64])
    events: list[tuple[str, dict[str, Any]]] = [
        ("version", {"from": text, "to": text}), ("profile", {"from": None, "to": text}), (text[:32], {"x": text}),
    ]  # fmt: skip
    for order, (kind, detail) in enumerate(events):
        sample.add_event(connection, serial, NOW_MS + order, kind, detail)
    connection.execute(
        sa.insert(db.anomalies).values(
            terminal=serial, id=bytes(16), at_ms=NOW_MS, kind=text[:32], detail={text: text, "reason": [text]}
        )
    )
    label = text[:64] if FACT_MAY_SAY.fullmatch(text[:64]) else "refused by wire"
    ended = Fact(
        journal=JOURNAL, seq=1, kind=FactKind.VISIT_ENDED, at_ms=2**53, service=label, loa=0, outcome=Failure.CARD_GONE
    )
    sample.add_fact(connection, serial, ended, NOW_MS)
    started = Fact(journal=JOURNAL, seq=2, kind=FactKind.AGENT_STARTED, at_ms=0, agent=label)
    sample.add_fact(connection, serial, started, NOW_MS)


@pytest.mark.parametrize("lang", ["fa", "en"])
async def test_no_payload_changes_the_shape_of_any_page(config: Config, lang: str) -> None:
    engine = db.open_engine(config.database)
    app = create_app(config, now_ms=lambda: NOW_MS)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client,
    ):
        await client.get(f"/login/{LINK}")
        with db.writing(engine) as connection:
            put(connection, "zz-honest", "harmless")
        pages = {}
        for number, text in enumerate(("harmless", *PAYLOADS)):
            serial = f"zz-{number:02}"
            with db.writing(engine) as connection:
                put(connection, serial, text)
            answer = await client.get(f"/terminals/{serial}?lang={lang}")
            listed = await client.get(f"/?q={serial}&lang={lang}")
            assert (answer.status_code, listed.status_code) == (200, 200)
            pages[text] = (outline(answer.text), outline(listed.text))
            shown = html.unescape(answer.text)
            assert not set(shown) & set("\u202e\u2066\x00\x1b\x07\u200b\ufeff"), repr(text)
    engine.dispose()
    honest = pages["harmless"]
    for text in PAYLOADS:
        assert pages[text] == honest, repr(text)


async def test_what_is_typed_into_the_search_is_shown_as_text(config: Config) -> None:
    app = create_app(config, now_ms=lambda: NOW_MS)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client,
    ):
        await client.get(f"/login/{LINK}")
        honest = outline((await client.get("/", params={"q": "zz"})).text)
        for text in PAYLOADS:
            answer = await client.get("/", params={"q": f"zz{text}", "after": "", "presence": text, "lang": text})
            assert outline(answer.text) == honest, repr(text)
