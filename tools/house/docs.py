"""`./run docs`: what of the documentation is made and not written: screenshots, notices, requirement page."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tools.demo.play import Play, StepDone
from tools.demo.stack import Stack, StackOptions

ROOT: Final = Path(__file__).resolve().parents[2]
SCREENSHOTS: Final = ROOT / "docs" / "screenshots"
SEED: Final = 4711


async def _screenshots() -> None:
    """Play the demo with the simulators' real pace and photograph its pages at the moments that the README shows."""
    directory = Path(tempfile.mkdtemp(prefix="govah-docs-"))
    try:
        async with AsyncExitStack() as doors:
            stack = await doors.enter_async_context(Stack.open(StackOptions(directory, SEED)))
            play = Play(stack, doors, _tell)
            await play.run()
            await _photograph(stack, "done")
            await stack.card(do="pull")
            asked = {"service": "notary.identity", "act_reference": "1405/2418"}
            visit = await stack.office("POST", "/api/v1/visits", asked)
            await _photograph(stack, "waiting")
            await stack.office("DELETE", f"/api/v1/visits/{visit['id']}")
            await stack.pcscd.kill()
            await _photograph(stack, "blocked")
    finally:
        shutil.rmtree(directory)


async def _photograph(stack: Stack, moment: str) -> None:
    """In a process of its own: Playwright's synchronous interface wants no event loop around it."""
    login = await stack.govah_json("fleet", "login-url", "--data-dir", stack.fleet_dir, "--json")
    words = ["--kiosk", stack.kiosk, "--login", login["url"], "--moment", moment, "--out", str(SCREENSHOTS)]
    await asyncio.to_thread(subprocess.run, [sys.executable, "-m", "tools.screenshots", *words], cwd=ROOT, check=True)


def _tell(step: StepDone) -> None:
    sys.stderr.write(f"  {step.name}: {step.took_ms} ms\n")


def main() -> int:
    """Exit status 0 when everything was made anew."""
    asyncio.run(_screenshots())
    for page in ("notices", "requirements_page"):
        subprocess.run([sys.executable, "-m", f"tools.house.{page}", "--write"], cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
