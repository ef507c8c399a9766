"""States of the web program that its tests start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fleet_server.config import Config
from fleet_server.dashboard.tests import sample


@pytest.fixture(scope="session")
def made_fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the sample fleet, to be copied."""
    folder = tmp_path_factory.mktemp("fleet")
    sample.make_fleet(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, made_fleet: Path) -> Config:
    """The configuration of a fleet server of its own with the sample fleet in it."""
    folder = tmp_path / "fleet"
    shutil.copytree(made_fleet, folder)
    return sample.config_in(folder)
