"""The kiosk page in Debian's Chromium: live, whole at every width, silent on the console, alone with its host."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, Page, async_playwright

from edge_agent.kiosk import words
from edge_agent.kiosk.app import create_app
from edge_agent.kiosk.desk import Screen, Step
from edge_agent.kiosk.serve import listen, serve
from edge_agent.kiosk.tests.fake_desk import CONFIG, HOLDER, NOW_MS, TRACKING_CODE, FakeDesk, every_screen
from wire.failures import Failure

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"counter": (1280, 800), "wide": (1440, 900), "phone": (390, 844)}

pytestmark = pytest.mark.bench


@dataclass
class Kiosk:
    """A running page. `trouble` collects console errors, exceptions and requests to anyone else."""

    desk: FakeDesk
    url: str
    browser: Browser
    serving: asyncio.Task[None]
    trouble: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, *, lang: str = "fa", size: str = "counter") -> AsyncIterator[Page]:
        width, height = SIZES[size]
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", locale="fa-IR"
        )
        page = await context.new_page()
        page.on("console", lambda message: self.trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith(self.url) else self.trouble.append(sent.url))
        await page.goto(f"{self.url}/?lang={lang}")
        yield page
        await context.close()


@pytest.fixture
async def kiosk() -> AsyncIterator[Kiosk]:
    desk = FakeDesk()
    listening = listen(CONFIG)
    serving = asyncio.ensure_future(serve(create_app(desk, CONFIG), listening))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield Kiosk(desk, url, browser, serving)
        await browser.close()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving
    listening.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["fa", "en"])
async def test_every_state_fits_its_width_and_says_its_word(kiosk: Kiosk, lang: str, size: str) -> None:
    async with kiosk.open(lang=lang, size=size) as page:
        for name, screen in every_screen().items():
            await kiosk.desk.show(screen)
            await page.wait_for_function(
                "key => document.querySelector('.stage').dataset.key.startsWith(key)",
                arg=f"{screen.step}/{screen.visit or ''}/{int(screen.failure) if screen.failure else 0}",
            )
            width, height = await page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            )
            assert width <= SIZES[size][0], name
            if size != "phone":
                assert height <= SIZES[size][1], f"{name} needs scrolling at the counter"
            assert await page.title() != ""
    assert kiosk.trouble == []


async def test_the_officers_form_starts_and_ends_a_visit_live(kiosk: Kiosk) -> None:
    async with kiosk.open() as page:
        await page.fill("input[name=act_reference]", "۱۴۰۴/۸۸۱۲")
        await page.click(".manual button")
        await page.wait_for_selector("[data-key^='waiting_for_card']")
        assert kiosk.desk.requests[0].act_reference == "1404/8812"
        assert not await page.is_visible(".manual")
        await page.click("#cancel")
        await page.wait_for_selector(f"[data-key*='/{int(Failure.VISIT_CANCELLED)}/']")
        assert await page.is_visible(".manual")
    assert kiosk.trouble == []


async def test_what_the_officer_types_survives_changes_of_the_screen(kiosk: Kiosk) -> None:
    async with kiosk.open() as page:
        await page.fill("input[name=act_reference]", "typed")
        await kiosk.desk.show(Screen(Step.FAILED, NOW_MS, failure=Failure.CARD_GONE))
        await page.wait_for_selector("[data-key^='failed']")
        assert await page.input_value("input[name=act_reference]") == "typed"


async def test_progress_moves_without_redrawing_the_stage(kiosk: Kiosk) -> None:
    screens = every_screen()
    async with kiosk.open() as page:
        await kiosk.desk.show(screens["reading"])
        await page.wait_for_selector("progress")
        await page.evaluate("document.querySelector('.stage').marked = true")
        await kiosk.desk.show(screens["reading_named"])
        await page.wait_for_function("() => document.querySelector('progress').value === 96")
        assert await page.evaluate("document.querySelector('.stage').marked")
        assert HOLDER in await page.inner_text("#screen")


async def test_the_holders_name_leaves_the_screen_with_the_card(kiosk: Kiosk) -> None:
    screens = every_screen()
    async with kiosk.open() as page:
        await kiosk.desk.show(screens["done"])
        await page.wait_for_function("name => document.body.innerText.includes(name)", arg=HOLDER)
        await kiosk.desk.show(screens["done_card_gone"])
        await page.wait_for_function("name => !document.documentElement.outerHTML.includes(name)", arg=HOLDER)
        assert words.DONE_AND_GONE.fa in await page.inner_text(".next")


async def test_a_dead_terminal_empties_the_screen_and_says_so(kiosk: Kiosk) -> None:
    async with kiosk.open() as page:
        await kiosk.desk.show(every_screen()["done"])
        await page.wait_for_selector(".qr")
        kiosk.serving.cancel()
        await page.wait_for_selector("main.lost")
        html = await page.content()
        assert HOLDER not in html
        assert TRACKING_CODE.partition("-")[0] not in html
        assert not await page.is_visible(".manual")


async def test_every_control_can_be_reached_by_keyboard_and_shows_that_it_is_focused(kiosk: Kiosk) -> None:
    async with kiosk.open(lang="en") as page:
        reached = []
        for _ in range(6):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate(
                    "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                    " return [e.name || e.className, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
                )
            )
        named = {name: (style, width) for name, style, width in reached}
        assert {"language", "service", "act_reference", "min_loa", "button"} <= set(named)
        assert all(width >= 2 for name, (style, width) in named.items() if name in {"language", "button", "service"})


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_the_contrast_that_wcag_aa_asks_for(kiosk: Kiosk, scheme: str) -> None:
    async with kiosk.open() as page:
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of two literals
        for name in ("ready", "reading_named", "done", "failed_card_gone", "failed_card_expired", "blocked_all"):
            await kiosk.desk.show(every_screen()[name])
            await page.wait_for_function(
                "key => document.querySelector('.stage').dataset.key.startsWith(key)",
                arg=every_screen()[name].step.value,
            )
            poor = await page.evaluate(CONTRAST)
            assert poor == [], (scheme, name)


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
"""WCAG 2.2 success criterion 1.4.3 over every visible text node's element."""
