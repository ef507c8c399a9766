"""Photographs of the two web faces for the documentation: `python -m tools.screenshots --moment done …`.

Whoever calls puts the system into the moment; this waits until the page shows it, in both languages and at both widths.
Files are `<name>-<fa|en>.png` at 1440 pixels and `<name>-<fa|en>-390.png` at phone width.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM_ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LANGS: Final = ("fa", "en")
SIZES: Final = {"": (1440, 900), "-390": (390, 844)}
"""Suffix of the file to width and height in pixels."""
STEPS: Final = {"waiting": "waiting_for_card", "done": "done", "blocked": "blocked"}
WAIT_MS: Final = 60_000


class Camera:
    """Takes pictures with one browser into one folder."""

    def __init__(self, browser: Browser, out: Path) -> None:
        self._browser = browser
        self._out = out
        self.taken: list[Path] = []

    def kiosk(self, url: str, moment: str) -> None:
        """The kiosk page as soon as it shows `moment`, a key of `STEPS`."""
        for lang in LANGS:
            for suffix in SIZES:
                with self._page(suffix) as page:
                    page.goto(f"{url.rstrip('/')}/?lang={lang}")
                    page.wait_for_selector(f".stage[data-key^='{STEPS[moment]}/']", timeout=WAIT_MS)
                    self._take(page, f"kiosk-{moment}-{lang}{suffix}")

    def dashboard(self, login_url: str) -> None:
        """The list of terminals, and the one that was heard last with its facts. Uses up `login_url`."""
        home = login_url.partition("/login/")[0]
        with self._page("") as page:
            page.goto(login_url)
            page.wait_for_selector(".presence.online", timeout=WAIT_MS)
            terminal = page.get_attribute("tbody tr:has(.presence.online) th a", "href")
            state = page.context.storage_state()
        for lang in LANGS:
            for suffix in SIZES:
                with self._page(suffix, state) as page:
                    page.goto(f"{home}/?lang={lang}")
                    self._take(page, f"terminals-{lang}{suffix}")
                    page.goto(f"{home}{terminal}?lang={lang}")
                    page.wait_for_selector("table.list tbody tr", timeout=WAIT_MS)
                    self._take(page, f"terminal-{lang}{suffix}")

    @contextmanager
    def _page(self, suffix: str, state: object = None) -> Iterator[Page]:
        width, height = SIZES[suffix]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            color_scheme="light",
            storage_state=state,  # type: ignore[arg-type] # what another context of this browser gave
        )
        yield context.new_page()
        context.close()

    def _take(self, page: Page, name: str) -> None:
        path = self._out / f"{name}.png"
        page.evaluate("() => document.fonts.ready")
        page.screenshot(path=path, full_page=True)
        self.taken.append(path)


def take(*, kiosk: str | None, login: str | None, moment: str, out: Path) -> list[Path]:
    """Every picture of `moment`: the kiosk if its URL is given, and at ``done`` the dashboard if a login URL is.

    Raises:
        playwright.sync_api.TimeoutError: the page did not show the moment within a minute.
    """
    out.mkdir(parents=True, exist_ok=True)
    executable = shutil.which("chromium") or "/usr/bin/chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))
        camera = Camera(browser, out)
        if kiosk is not None:
            camera.kiosk(kiosk, moment)
        if login is not None and moment == "done":
            camera.dashboard(login)
        browser.close()
    return camera.taken


@click.command()
@click.option("--kiosk", help="Address of the kiosk page.")
@click.option("--login", help="One-time login address of the dashboard; used up at the moment `done`.")
@click.option("--moment", type=click.Choice(list(STEPS)), required=True, help="What the kiosk shows, or soon will.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the pictures.")
def main(kiosk: str | None, login: str | None, moment: str, out: Path) -> None:
    """Photograph the pages for the documentation."""
    for path in take(kiosk=kiosk, login=login, moment=moment, out=out):
        click.echo(path)


if __name__ == "__main__":
    sys.exit(main())
