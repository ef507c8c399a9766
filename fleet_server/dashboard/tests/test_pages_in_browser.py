"""The dashboard in Debian's Chromium: live, whole at both widths, silent on the console, alone with its host."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
import uvicorn
from playwright.async_api import Browser, Page, StorageState, async_playwright

from fleet_server import admin, db
from fleet_server.app import create_app
from fleet_server.config import Config
from fleet_server.dashboard.tests import sample
from fleet_server.dashboard.tests.sample import BLOCKED, BUSY, LEFT, LOST, NEVER

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"wide": (1440, 900), "phone": (390, 844)}

pytestmark = pytest.mark.bench


@dataclass
class Dashboard:
    """The running program and a browser that is logged in."""

    url: str
    engine: sa.Engine
    browser: Browser
    session: StorageState
    trouble: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, path: str, *, lang: str = "fa", size: str = "wide") -> AsyncIterator[Page]:
        width, height = SIZES[size]
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, storage_state=self.session, reduced_motion="reduce"
        )
        page = await context.new_page()
        page.on("console", lambda message: self.trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith(self.url) else self.trouble.append(sent.url))
        streamed = asyncio.ensure_future(page.wait_for_event("response", lambda got: "/events/" in got.url))
        await page.goto(f"{self.url}{path}{'&' if '?' in path else '?'}lang={lang}")
        await streamed
        yield page
        await context.close()


@pytest.fixture
async def dashboard(config: Config) -> AsyncIterator[Dashboard]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    settings = uvicorn.Config(create_app(config), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    engine = db.open_engine(config.database)
    link = os.urandom(16).hex()
    with db.writing(engine) as connection:
        admin.add_link(connection, link, now_ms=time.time_ns() // 1_000_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{url}/login/{link}")
        assert page.url == f"{url}/"
        session = await context.storage_state()
        await context.close()
        yield Dashboard(url, engine, browser, session)
        await browser.close()
    server.should_exit = True
    await serving
    engine.dispose()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["fa", "en"])
async def test_every_page_fits_its_width_with_the_contrast_that_wcag_aa_asks_for(
    dashboard: Dashboard, lang: str, size: str
) -> None:
    for path in ("/", *(f"/terminals/{serial}" for serial in (BUSY, BLOCKED, LOST, LEFT, NEVER))):
        async with dashboard.open(path, lang=lang, size=size) as page:
            assert await page.evaluate("() => document.documentElement.scrollWidth") <= SIZES[size][0], path
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                assert await page.evaluate(CONTRAST) == [], (path, scheme)
    assert dashboard.trouble == []


async def test_a_change_in_the_database_reaches_the_open_list_and_keeps_the_focus(dashboard: Dashboard) -> None:
    async with dashboard.open("/") as page:
        await page.focus(f"#t-{BUSY}")
        with db.writing(dashboard.engine) as connection:
            connection.execute(sa.update(db.terminals).where(db.terminals.c.serial == BUSY).values(presence="lost"))
        await page.wait_for_selector(f"tr:has(#t-{BUSY}) .presence.lost")
        assert "۲" in await page.inner_text("#only-lost")
        assert await page.evaluate("() => document.activeElement.id") == f"t-{BUSY}"
    assert dashboard.trouble == []


async def test_the_search_narrows_the_list_as_it_is_typed_and_stays_live(dashboard: Dashboard) -> None:
    async with dashboard.open("/") as page:
        await page.type("#q", "thr-")
        await page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 1")
        assert await page.evaluate("() => [document.activeElement.id, location.search]") == ["q", "?q=thr-"]
        with db.writing(dashboard.engine) as connection:
            sample.add_terminal(connection, "thr-9999-01", time.time_ns() // 1_000_000)
        await page.wait_for_selector("#t-thr-9999-01")
        assert await page.input_value("#q") == "thr-"
    assert dashboard.trouble == []


async def test_asking_for_health_shows_the_command_live_and_its_result(dashboard: Dashboard) -> None:
    async with dashboard.open(f"/terminals/{BUSY}", lang="en") as page:
        await page.click("text=Ask for health")
        await page.wait_for_selector("text=Waiting for the terminal")
        with db.writing(dashboard.engine) as connection:
            now_ms = time.time_ns() // 1_000_000
            connection.execute(
                sa.update(db.commands).where(db.commands.c.result.is_(None)).values(result=0, result_ms=now_ms)
            )
        await page.wait_for_selector("text=Waiting for the terminal", state="detached")
    assert dashboard.trouble == []


async def test_logging_out_in_one_tab_ends_the_live_page_in_the_other(dashboard: Dashboard) -> None:
    async with dashboard.open("/", lang="en") as page:
        other = await page.context.new_page()
        await other.goto(f"{dashboard.url}/?lang=en")
        await other.click("text=Log out")
        await other.wait_for_selector("text=You are logged out")
        await page.wait_for_selector("text=Please log in")


CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("svg, option, script, template, noscript")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x);
    const big = parseFloat(style.fontSize) >= 24;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (big ? 3 : 4.5)) poor.push(`${e.tagName} ${e.className} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
"""WCAG 2.2 success criterion 1.4.3 over every element with visible text of its own."""
