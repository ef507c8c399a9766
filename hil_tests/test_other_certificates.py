"""What the fleet tells a terminal reaches that certificate and no other, under traffic, with Debian's own tools."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio

from hil_tests.bench import Bench

pytestmark = [pytest.mark.bench, pytest.mark.asyncio(loop_scope="session")]

OTHER = "bench-0002"
LISTENED_TO_THE_END = 27
"""mosquitto_sub was connected until its own time ran out (MOSQ_ERR_TIMEOUT)."""


async def mosquitto(bench: Bench, tool: str, directory: Path, *words: str) -> tuple[int, str]:
    """Run Debian's client with the certificate in `directory`; exit status and output. It ends by `-W` or `-C`."""
    broker, fleet = bench.stack.fleet["broker"], bench.stack.fleet
    command = [tool, "-V", "5", "-h", broker["host"], "-p", str(broker["port"]), "--cafile", str(fleet["ca"])]
    command += ["--cert", str(directory / "terminal.pem"), "--key", str(directory / "terminal.key"), *words]
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await child.communicate()
    return child.returncode or 0, said.decode(errors="replace")


@pytest_asyncio.fixture(loop_scope="session")
async def other(bench: Bench) -> Path:
    """A second terminal's certificate, enrolled as any other; no agent runs with it."""
    directory = bench.stack.directory / "other"
    if not (directory / "terminal.pem").exists():
        await bench.stack.enrol(OTHER, directory)
    return directory


@pytest.mark.timeout(90)
async def test_a_terminals_own_certificate_hears_what_the_fleet_tells_it(bench: Bench) -> None:
    _, heard = await mosquitto(
        bench, "mosquitto_sub", bench.stack.agent_dir,
        "-t", f"fl/v1/{bench.terminal}/dn/#", "-q", "1", "-C", "1", "-W", "30", "-F", "%t",
    )  # fmt: skip
    assert f"fl/v1/{bench.terminal}/dn/mark" in heard


@pytest.mark.timeout(60)
@pytest.mark.parametrize("topic", ["fl/v1/{first}/dn/#", "fl/v1/+/dn/#", "fl/#", "#", "$SYS/#", "$share/g/fl/#"])
async def test_another_terminals_certificate_hears_nothing_of_it(bench: Bench, other: Path, topic: str) -> None:
    listening = asyncio.create_task(
        mosquitto(
            bench, "mosquitto_sub", other,
            "-t", topic.format(first=bench.terminal), "-q", "1", "-W", "4", "-F", "%t",
        )
    )  # fmt: skip
    await asyncio.sleep(1)
    assert (await bench.whole_visit()).state == "done"
    status, heard = await listening
    assert bench.terminal not in heard
    assert status == LISTENED_TO_THE_END, heard


@pytest.mark.timeout(60)
async def test_another_terminals_certificate_cannot_publish_as_the_first(bench: Bench, other: Path) -> None:
    before = await bench.facts()
    _, refused = await mosquitto(
        bench, "mosquitto_pub", other, "-t", f"fl/v1/{bench.terminal}/up/fact", "-q", "1", "-m", "forged", "-d"
    )
    assert "Not authorized" in refused or "rc=135" in refused or "reason code 135" in refused.lower(), refused
    assert (await bench.whole_visit()).state == "done"
    await bench.until_stored_visits(len([fact for fact in before if fact.kind == 1]) + 1)
    assert {fact.journal for fact in await bench.facts()} == {fact.journal for fact in before}
