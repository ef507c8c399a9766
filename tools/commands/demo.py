"""`govah demo`: one card visit, end to end, on the real parts; then it stays up until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import webbrowser
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import click

from tools.demo.play import Play, StepDone, StepFailedError
from tools.demo.stack import ROOT, VPCD_LIBRARY, Stack, StackOptions

RUNS: Final = ROOT / ".govah" / "demo"
KEEP_RUNS: Final = 5

_WORDS: Final = {
    "fleet_server_up": ("سرور ناوگان، کارگزار پیام و ثبت‌نام بالا آمدند", "fleet server, broker, enrolment are up"),
    "registry_and_exchange_up": ("شبیه‌ساز ثبت احوال و مرکز تبادل بالا آمدند", "civil registry and exchange are up"),
    "reader_up": ("کارتخوان شبیه‌سازی‌شده زیر pcscd واقعی است", "simulated reader under the real pcscd"),
    "terminal_enrolled": ("پایانه کلید ساخت و گواهی گرفت", "terminal made its key and got its certificate"),
    "terminal_ready": ("پایانه آماده است", "terminal is ready for visits"),
    "office_asks": ("نرم‌افزار دفتر گواهی خواست", "office software asks for an assertion"),
    "card_becomes_assertion": ("کارت گذاشته و گواهی صادر شد", "card inserted, assertion issued"),
    "assertion_verified_offline": ("گواهی برون‌خط راستی‌آزمایی شد", "assertion verified offline"),
    "facts_stored_by_fleet": ("رویدادها در سرور ناوگان ذخیره شد", "facts stored by the fleet server"),
}


@click.command()
@click.option(
    "--once", is_flag=True, help="End when everything was played; exit status 0 only if every step was verified."
)
@click.option("--json", "as_json", is_flag=True, help="Only the last line, one JSON object.")
@click.option(
    "--number",
    "seed",
    type=click.IntRange(0, 99_999_999),
    default=4711,
    show_default=True,
    help="Which simulated citizen.",
)
@click.option("--fast", is_flag=True, help="Simulators without their realistic delays.")
@click.option("--open", "open_browser", is_flag=True, help="Open the kiosk page and the dashboard.")
def demo(*, once: bool, as_json: bool, seed: int, fast: bool, open_browser: bool) -> None:
    """Play one card visit on the real parts, from insertion to verified assertion."""
    sys.exit(asyncio.run(_demo(once=once, as_json=as_json, seed=seed, fast=fast, open_browser=open_browser)))


async def _demo(*, once: bool, as_json: bool, seed: int, fast: bool, open_browser: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tell = _tell_nothing if as_json else _tell
    options = StackOptions(_new_run(), seed, fast, vpcd_library=VPCD_LIBRARY)
    async with AsyncExitStack() as doors:
        stack = await doors.enter_async_context(Stack.open(options))
        play = Play(stack, doors, tell)
        try:
            playing = asyncio.ensure_future(play.run())
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not playing.done():
                playing.cancel()
                await asyncio.wait({playing})
                return 130
            await playing
        except StepFailedError as exc:
            click.echo(f"govah: {exc}\ngovah: logs are in {options.directory}/logs", err=True)
            _say(play.report())
            return 1
        report = play.report()
        report["fleet"]["login"] = (
            await stack.govah_json("fleet", "login-url", "--data-dir", stack.fleet_dir, "--json")
        )["url"]
        if not as_json:
            _explain(report)
        if open_browser:
            webbrowser.open(report["kiosk"])
            webbrowser.open(report["fleet"]["login"])
        _say(report)
        if not once:
            await stop.wait()
    return 0 if play.ok else 1


def _new_run() -> Path:
    """A directory of this run's own; all but the newest few of earlier runs that have ended are removed."""
    RUNS.mkdir(parents=True, exist_ok=True)
    ended = sorted((run for run in RUNS.iterdir() if not _alive(run)), key=lambda run: run.stat().st_mtime)
    for run in ended[:-KEEP_RUNS]:
        shutil.rmtree(run)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=RUNS))
    (directory / "pid").write_text(str(os.getpid()), encoding="ascii")
    return directory


def _alive(run: Path) -> bool:
    try:
        return Path("/proc", (run / "pid").read_text(encoding="ascii").strip()).exists()
    except OSError:
        return False


def _tell(step: StepDone) -> None:
    fa, en = _WORDS[step.name]
    mark = "✓" if step.ok else "✗"
    click.echo(f" {mark} {en} · {fa}  ({step.took_ms} ms)")


def _tell_nothing(_: StepDone) -> None:
    return


def _explain(report: dict[str, Any]) -> None:
    visit, fleet = report["visit"], report["fleet"]
    click.echo(f"""
 assertion · گواهی        level {visit["loa"]}, tracking code {visit["tracking_code"]}, {visit["outcome"]}
                          {visit["assertion"]}
 kiosk · صفحهٔ پایانه      {report["kiosk"]}
 dashboard · داشبورد      {fleet["login"]}   (works once)
 logs                     {report["directory"]}/logs
 Ctrl-C ends everything.
""")


def _say(report: dict[str, Any]) -> None:
    click.echo(json.dumps(report, ensure_ascii=False))
