"""What the demo plays: the system comes up, one citizen's card becomes a verified assertion, the fleet knows of it."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from fleet_server import config as fleet_config
from fleet_server import db, queries
from tools.demo.process import ProcessFailedError
from tools.demo.stack import AUDIENCE, SERVICE, Stack, StackError, run_to_end
from tools.demo.versions import versions
from tools.pcscd import PcscdError
from tools.simulators import issuer

ACT_REFERENCE: Final = "1405/2417"
READY_WITHIN_S: Final = 30.0
VISIT_WITHIN_S: Final = 60
POLL_S: Final = 0.1


class StepFailedError(Exception):
    """A step did not come to its end; the sentence says which and why."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """One line of the report. `took_ms` is wall time on this machine."""

    name: str
    ok: bool
    took_ms: int
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "milliseconds": self.took_ms} | (
            {"why": self.why} if self.why else {}
        )


class Play:
    """Plays on `stack`, telling each finished step to `tell`. `results` grows into the report."""

    def __init__(self, stack: Stack, doors: AsyncExitStack, tell: Callable[[StepDone], None]) -> None:
        self._stack = stack
        self._doors = doors
        self._tell = tell
        self.steps: list[StepDone] = []
        self.visit: dict[str, Any] = {}

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    async def run(self) -> None:
        """All steps in order.

        Raises:
            StepFailedError: the first that failed; it is in `steps` too.
        """
        stack = self._stack
        async with self._step("fleet_server_up"):
            await stack.start_fleet()
        async with self._step("registry_and_exchange_up"):
            await stack.start_registry()
        async with self._step("reader_up"):
            await self._doors.enter_async_context(stack.reader())
            await stack.start_card()
        async with self._step("terminal_enrolled"):
            await stack.enrol(stack.options.terminal, stack.agent_dir)
        async with self._step("terminal_ready"):
            await stack.start_agent()
            await self._until_ready()
        async with self._step("office_asks"):
            visit = await self._stack.office(
                "POST", "/api/v1/visits", {"service": SERVICE, "act_reference": ACT_REFERENCE}
            )
        async with self._step("card_becomes_assertion"):
            await stack.card(do="insert")
            done = await self._stack.office("GET", f"/api/v1/visits/{visit['id']}?wait_s={VISIT_WITHIN_S}")
            if done["state"] != "done":
                raise StepFailedError(f"the visit ended as {done}")
        async with self._step("assertion_verified_offline"):
            self.visit = await self._verified(done)
        async with self._step("facts_stored_by_fleet"):
            await self._until_stored()

    def report(self) -> dict[str, Any]:
        """The object of the demo's last line; what is not there yet is left out."""
        stack = self._stack
        report: dict[str, Any] = {"steps": [step.as_json() for step in self.steps], "visit": self.visit}
        if self.ok:
            layout = fleet_config.load(stack.fleet_dir).layout
            report |= {
                "fleet": {
                    "url": stack.fleet["web"],
                    "est": stack.fleet["est"],
                    "ca": stack.fleet["ca"],
                    "data_dir": str(stack.fleet_dir),
                    "terminal": stack.options.terminal,
                    "cert": str(stack.agent_dir / "terminal.pem"),
                    "key": str(stack.agent_dir / "terminal.key"),
                    "facts": self._fleet_knows()[1],
                    "config": str(layout.config),
                },
                "broker": stack.fleet["broker"],
                "pcsc_socket": stack.pcscd.socket,
                "kiosk": stack.kiosk,
                "versions": versions(stack.pcscd),
                "directory": str(stack.directory),
            }
        return report

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        started = time.monotonic()
        try:
            yield
        except (
            StepFailedError, StackError, ProcessFailedError, PcscdError, TimeoutError, httpx.HTTPError, OSError,
            ValueError,
        ) as exc:  # fmt: skip
            self._done(StepDone(name, ok=False, took_ms=_since_ms(started), why=f"{type(exc).__name__}: {exc}"))
            raise StepFailedError(f"{name}: {type(exc).__name__}: {exc}") from exc
        self._done(StepDone(name, ok=True, took_ms=_since_ms(started)))

    def _done(self, step: StepDone) -> None:
        self.steps.append(step)
        self._tell(step)

    async def _until_ready(self) -> None:
        """Trusted time, reader and journal: the API says what is still in the way."""
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while True:
                    status = await self._stack.office("GET", "/api/v1/status")
                    if status["ready"]:
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise StepFailedError(f"the terminal stays blocked: {status}") from exc

    async def _verified(self, done: dict[str, Any]) -> dict[str, Any]:
        """Check the assertion as the relying party would: another process, offline, with the registry's key alone."""
        stack = self._stack
        token = stack.directory / "assertion.cose"
        encoded = str(done["assertion"])
        await asyncio.to_thread(token.write_bytes, base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        key = Path(stack.processes["registry"].ready["registry_key"])
        command = [sys.executable, "-m", "tools", "verify", str(token), "--key", str(key), "--for", AUDIENCE, "--json"]
        judged = json.loads(await run_to_end(command))
        if judged["outcome"] != "genuine_now":
            raise StepFailedError(f"the verifier says {judged['outcome']}")
        return {
            "loa": done["loa"],
            "tracking_code": done["tracking_code"],
            "assertion": str(token),
            "audience": AUDIENCE,
            "registry_key": str(key),
            "outcome": judged["outcome"],
            "card_values": dict(issuer.personalise(stack.options.seed).printed),
        }

    async def _until_stored(self) -> None:
        """The fleet server has the start of the agent and the end of the visit, and holds the terminal online."""
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                presence, facts = await asyncio.to_thread(self._fleet_knows)
                if presence == "online" and facts >= 2:
                    return
                await asyncio.sleep(POLL_S)

    def _fleet_knows(self) -> tuple[str, int]:
        """Presence of the terminal and number of its facts, as the fleet server has them on disk."""
        engine = db.open_engine(fleet_config.load(self._stack.fleet_dir).database)
        try:
            with engine.connect() as connection:
                serial = self._stack.options.terminal
                return queries.terminal(connection, serial).presence, queries.count_facts(connection, serial)
        finally:
            engine.dispose()


def _since_ms(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
