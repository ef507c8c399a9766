"""The bench: what a test may ask of the terminal under test, whatever stands behind it.

A bench file (TOML) says what is wired. `emulated` needs nothing; `hardware` names a reader and asks a person to move
the card. A test that needs what a bench does not have is skipped, with the reason.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from fleet_server import config as fleet_config
from fleet_server import db, queries
from tools.demo.stack import SERVICE, Stack
from wire.messages import Fact, FactKind

POLL_S: Final = 0.05
WITHIN_S: Final = 30.0
VISIT_WITHIN_S: Final = 40


class BenchFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bench, as its file describes it."""

    name: str
    kind: str
    citizen: int = 4711
    reader: str = ""


def read_bench_file(path: Path) -> BenchFile:
    """Raises msgspec.ValidationError for a file that says something else."""
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), BenchFile)


@dataclass(frozen=True, slots=True)
class VisitEnd:
    """What the office is told in the end."""

    id: str
    state: str
    failure: str
    body: dict[str, Any]


class Bench:
    """The emulated bench. Everything is real but the card, the registry and the exchange."""

    def __init__(self, stack: Stack, description: BenchFile) -> None:
        self.stack = stack
        self.description = description
        self.terminal = stack.options.terminal

    async def begin_visit(self, act_reference: str = "1405/1") -> str:
        """The office asks; the id of the visit that is now waiting for a card."""
        view = await self.stack.office("POST", "/api/v1/visits", {"service": SERVICE, "act_reference": act_reference})
        return str(view["id"])

    async def visit_end(self, visit: str, wait_s: int = VISIT_WITHIN_S) -> VisitEnd:
        """Wait for the end of a visit."""
        view = await self.stack.office("GET", f"/api/v1/visits/{visit}?wait_s={wait_s}")
        failure = view["failure"]
        return VisitEnd(visit, view["state"], failure["name"] if failure else "none", view)

    async def visit_end_or_waiting_again(self, visit: str) -> VisitEnd | None:
        """The end of a visit, or None once it waits for the card to come back."""
        waited: list[VisitEnd] = []

        async def over() -> bool:
            end = await self.visit_end(visit, wait_s=0)
            status = await self.stack.card(do="status")
            if end.state in ("done", "failed"):
                waited.append(end)
            return bool(waited) or (end.state == "waiting" and not status["inserted"])

        await self.until(over, "the visit ends or waits for its card again")
        return waited[0] if waited else None

    async def whole_visit(self) -> VisitEnd:
        """A visit with a card that stays in until its end, and comes out then."""
        visit = await self.begin_visit()
        await self.insert_card()
        end = await self.visit_end(visit)
        await self.pull_card()
        return end

    async def insert_card(self) -> None:
        """As a person does: not faster than the card service looks, or it would never see the card gone."""
        await self.until(self._reader_sees_no_card, "the reader is empty")
        await self.stack.card(do="insert")

    async def pull_card(self) -> None:
        await self.stack.card(do="pull")
        await self.until(self._reader_sees_no_card, "the reader is empty")

    async def pull_card_at(self, apdu: int) -> None:
        """The card comes out while its `apdu`-th command (from 1) since insertion is under way."""
        await self.stack.card(do="pull_at", apdu=apdu)

    async def screen(self) -> dict[str, Any]:
        """What the office API says of the terminal."""
        return await self.stack.office("GET", "/api/v1/status")

    async def until_ready(self) -> None:
        """A visit may start."""
        await self.until(self._ready, "the terminal is ready")

    async def until_unblocked(self) -> None:
        """Nothing stands in the way of a visit, or of the one that is under way."""

        async def unblocked() -> bool:
            return not (await self.screen())["blocked"]

        await self.until(unblocked, "nothing blocks the terminal")

    async def until_active(self, visit: str) -> None:
        """A card is being read for the visit."""

        async def active() -> bool:
            return (await self.visit_end(visit, wait_s=0)).state == "active"

        await self.until(active, "the visit is active")

    async def until_blocked(self, reason: str) -> None:
        """The terminal names `reason`."""

        async def blocked() -> bool:
            return reason in {failure["name"] for failure in (await self.screen())["blocked"]}

        await self.until(blocked, f"the terminal says {reason}")

    async def until_stored_visits(self, count: int) -> None:
        """The fleet server has the ends of at least `count` visits on disk."""

        async def stored() -> bool:
            return len(await self.ended_visits()) >= count

        await self.until(stored, f"{count} ends of visits are stored")

    async def until_online(self) -> None:
        """The fleet server holds the terminal online."""
        await self.until(self._online, "the terminal is online")

    async def facts(self) -> list[Fact]:
        """Every fact of the terminal on the fleet server's disk, in order."""
        return await asyncio.to_thread(self._facts)

    async def ended_visits(self) -> list[Fact]:
        return [fact for fact in await self.facts() if fact.kind is FactKind.VISIT_ENDED]

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, within_s: float = WITHIN_S) -> None:
        """Poll until `condition`; a hang becomes a failure with a name."""
        try:
            async with asyncio.timeout(within_s):
                while not await condition():  # noqa: ASYNC110  # another process cannot set an Event of ours
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise AssertionError(f"never came true: {what}") from exc

    async def _reader_sees_no_card(self) -> bool:
        return bool((await self.screen())["reader"] != "card_present")

    async def _ready(self) -> bool:
        try:
            return bool((await self.screen())["ready"])
        except httpx.TransportError:
            return False

    async def _online(self) -> bool:
        return await asyncio.to_thread(self._presence) == "online"

    def _presence(self) -> str:
        with self._fleet() as connection:
            return queries.terminal(connection, self.terminal).presence

    def _facts(self) -> list[Fact]:
        found: list[Fact] = []
        cursor = ""
        with self._fleet() as connection:
            while page := queries.facts(connection, self.terminal, cursor=cursor, limit=200):
                found += [stored.fact for stored in page]
                cursor = page[-1].cursor
        return sorted(found, key=lambda fact: (fact.journal, fact.seq))

    def _fleet(self) -> Any:
        return db.open_engine(fleet_config.load(self.stack.fleet_dir).database).connect()
