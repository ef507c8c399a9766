"""One fixture, `bench`: emulated unless `--bench FILE` names another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from hil_tests.bench import Bench, read_bench_file
from tools.demo.stack import ROOT, VPCD_LIBRARY, Stack, StackOptions

BENCHES = ROOT / ".govah" / "bench"
EMULATED = Path(__file__).parent / "benches" / "emulated.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", type=Path, default=EMULATED, help="the bench file (TOML)")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench_for_all(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """One stack for the whole run: enrolled, online, with the card in nobody's reader."""
    description = read_bench_file(request.config.getoption("--bench"))
    if description.kind != "emulated":
        pytest.skip("hardware: the profile spine-0 fits no card but the simulated one; see docs/bench.md")
    BENCHES.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=BENCHES))
    async with AsyncExitStack() as doors:
        doors.callback(shutil.rmtree, directory)
        options = StackOptions(directory, description.citizen, fast=True, vpcd_library=VPCD_LIBRARY)
        stack = await doors.enter_async_context(Stack.open(options))
        await stack.start_fleet()
        await stack.start_registry()
        await doors.enter_async_context(stack.reader())
        await stack.start_card()
        await stack.enrol(options.terminal, stack.agent_dir)
        await stack.start_agent()
        bench = Bench(stack, description)
        await bench.until_ready()
        await bench.until_online()
        yield bench


@pytest_asyncio.fixture(loop_scope="session")
async def bench(bench_for_all: Bench) -> Bench:
    """The bench as every test may expect it: all processes up, no card, no visit, everything stored."""
    bench = bench_for_all
    for name, process in list(bench.stack.processes.items()):
        if not process.alive:
            await bench.stack.launch(name)
    await bench.pull_card()
    await bench.until_ready()
    await bench.until_online()
    return bench
