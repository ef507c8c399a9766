"""Time of a visit from card insertion to the assertion, split into card, registry and our own; start-up and memory.

The simulators keep their realistic delays. Wall time on this machine: reported, never asserted. The floor of a visit is
what card and registry need by themselves; *own* is what is left. Printed as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tools.demo.play import Play, StepDone
from tools.demo.stack import Stack, StackOptions

VISITS: Final = 7
SEED: Final = 4711
FLEET: Final = ("web", "ingest", "est", "broker")


async def measure() -> dict[str, Any]:
    """Play the demo, then `VISITS` more visits, and read how long each party took out of the agent's own log."""
    directory = Path(tempfile.mkdtemp(prefix="govah-bench-"))
    try:
        async with AsyncExitStack() as doors:
            stack = await doors.enter_async_context(Stack.open(StackOptions(directory, SEED)))
            play = Play(stack, doors, _tell)
            await play.run()
            apdus = (await stack.card(do="status"))["apdus"]
            totals = [await _visit(stack) for _ in range(VISITS)]
            shares = _shares(stack.directory / "logs" / "agent.log")[-VISITS:]
            own = [total - card - registry for total, (card, registry) in zip(totals, shares, strict=True)]
            return {
                "visits": VISITS,
                "insertion_to_assertion_ms": _spread(totals),
                "card_ms": _spread([card for card, _ in shares]),
                "registry_and_exchange_ms": _spread([registry for _, registry in shares]),
                "own_ms": _spread(own),
                "apdus": apdus,
                "rss_kib": {name: _resident_kib(stack.processes[name].pid) for name in ("agent", *FLEET)},
                "start_up_ms": {name: await _start_up(stack, name) for name in ("agent", *FLEET)},
                "load_average": os.getloadavg()[0],
            }
    finally:
        shutil.rmtree(directory)


async def _visit(stack: Stack) -> int:
    """Milliseconds from the card going in to the office having the assertion."""
    await stack.card(do="pull")
    await _until_empty(stack)
    visit = await stack.office("POST", "/api/v1/visits", {"service": "notary.identity", "act_reference": "bench"})
    started = time.monotonic()
    await stack.card(do="insert")
    done = await stack.office("GET", f"/api/v1/visits/{visit['id']}?wait_s=30")
    if done["state"] != "done":
        raise RuntimeError(f"the visit ended as {done}")
    return round((time.monotonic() - started) * 1000)


async def _until_empty(stack: Stack) -> None:
    # another process cannot set an Event of ours
    while (await stack.office("GET", "/api/v1/status"))["reader"] == "card_present":  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def _shares(log: Path) -> list[tuple[int, int]]:
    """(card, registry) milliseconds of each visit that gave an assertion, in order."""
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
    return [(line["card_ms"], line["registry_ms"]) for line in lines if "card_ms" in line]


async def _start_up(stack: Stack, name: str) -> int:
    """Milliseconds from starting the process to its ready line."""
    await stack.processes[name].stop()
    started = time.monotonic()
    await stack.launch(name)
    return round((time.monotonic() - started) * 1000)


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _spread(values: list[int]) -> dict[str, int]:
    return {"min": min(values), "median": round(statistics.median(values)), "max": max(values)}


def _tell(step: StepDone) -> None:
    sys.stderr.write(f"{step.name}: {step.took_ms} ms\n")


if __name__ == "__main__":
    print(json.dumps({"benchmark": "visit", **asyncio.run(measure())}))
