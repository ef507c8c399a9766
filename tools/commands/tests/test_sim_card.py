from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_agent.cards.trust import TrustList
from tools.commands.sim_card import card, trust_list
from tools.simulators import issuer
from tools.simulators.card.tests.reader import GIVE_ATR, VirtualReader

WITHIN_S = 30.0


@asynccontextmanager
async def running(*options: str, enter: Sequence[str] = ()) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """The command as a process, ready; `enter` goes in front of it."""
    process = await asyncio.create_subprocess_exec(
        *enter, sys.executable, "-m", "tools", "sim", "card", *options, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def order(control: str, **what: object) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(control)
    writer.write(json.dumps(what).encode() + b"\n")
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return answer


def left_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.bench
async def test_the_command_is_a_card_until_it_is_told_to_end(tmp_path: Path) -> None:
    async with VirtualReader.listening() as reader:
        options = (
            "--port",
            str(reader.port),
            "--number",
            "7",
            "--state",
            str(tmp_path / "state"),
            "--fast",
            "--absent",
        )
        async with running(*options) as (process, ready):
            assert ready["number"] == 7
            assert bytes.fromhex(ready["atr"]) == issuer.personalise(7).atr
            assert (await order(ready["control"], do="status"))["inserted"] is False
            assert (await order(ready["control"], do="insert"))["inserted"] is True
            await reader.card()
            assert await reader.ask(GIVE_ATR) == issuer.personalise(7).atr
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN_S):
                assert await process.wait() == 0
        assert left_in(tmp_path / "state") == {"card.json", "lock"}


@pytest.mark.bench
@pytest.mark.fault
async def test_a_killed_card_remembers_its_tries(tmp_path: Path) -> None:
    wrong = (b"%06d" % ((int(issuer.personalise(7).pin1) + 1) % 10**6)).ljust(8, b"\xff")
    options = ("--number", "7", "--state", str(tmp_path), "--fast")
    async with VirtualReader.listening() as reader:
        async with running("--port", str(reader.port), *options) as (process, _):
            await reader.card()
            await reader.ask(bytes.fromhex("00a4040c0ca000000063504b43532d3135"))
            assert await reader.ask(bytes.fromhex("0020008108") + wrong) == b"\x63\xc2"
            process.kill()
            await process.wait()
        async with running("--port", str(reader.port), *options) as (_, ready):
            assert (await order(ready["control"], do="status"))["pin1_tries"] == 2


def test_the_trust_list_is_written_as_pem(tmp_path: Path) -> None:
    result = CliRunner().invoke(trust_list, [str(tmp_path / "trust.pem")])
    assert result.exit_code == 0
    trust = TrustList.from_pem((tmp_path / "trust.pem").read_bytes())
    assert trust == TrustList.from_pem(issuer.trust_list_pem())


def test_another_cards_memory_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"number": 1}')
    result = CliRunner().invoke(card, ["--port", "1", "--number", "2", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "another card" in result.output
