"""The world of these tests: made new for each, with one terminal authority for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tools.simulators.party import tls
from tools.simulators.registry.tests.world import START_MS, World


@pytest.fixture(scope="session")
def terminal_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.authority(tmp_path_factory.mktemp("fleet-ca"), "SIMULATED fleet", now_ms=START_MS)


@pytest.fixture
async def world(tmp_path: Path, terminal_ca: tls.Authority) -> AsyncIterator[World]:
    made = World(tmp_path, terminal_ca)
    yield made
    await made.close()
