from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from fleet_server import config as configuration
from fleet_server import db, installation
from fleet_server.config import Config
from tools.commands.fleet import fleet


def govah_fleet(*arguments: str) -> Result:
    return CliRunner().invoke(fleet, arguments)


@pytest.fixture
def made(tmp_path: Path) -> Config:
    """A fleet server that was made just now."""
    assert govah_fleet("init", "--data-dir", str(tmp_path / "fleet")).exit_code == 0
    return configuration.load(tmp_path / "fleet")


@pytest.fixture
def old(made: Config) -> Config:
    """One whose database has no schema at all yet, as after a restore of the wrong file."""
    made.layout.database.write_bytes(b"")
    return made


@pytest.mark.parametrize(
    "verb", [("serve", "web"), ("serve", "est"), ("serve", "ingest"), ("add", "t-1"), ("login-url",)]
)
def test_nothing_works_on_a_database_with_another_schema_and_the_person_is_told_what_to_run(
    old: Config, verb: tuple[str, ...]
) -> None:
    told = govah_fleet(*verb, "--data-dir", str(old.data_dir))
    assert told.exit_code == 1
    assert "govah fleet migrate" in told.output


def test_after_migrate_the_fleet_server_works_and_a_second_time_changes_nothing(old: Config) -> None:
    for _ in range(2):
        told = govah_fleet("migrate", "--data-dir", str(old.data_dir), "--json")
        assert (told.exit_code, json.loads(told.output)) == (0, {"data_dir": str(old.data_dir)})
    assert govah_fleet("add", "t-1", "--data-dir", str(old.data_dir)).exit_code == 0


def test_nobody_migrates_under_a_running_ingest(old: Config) -> None:
    with installation.only_ingest(old.layout):
        told = govah_fleet("migrate", "--data-dir", str(old.data_dir))
    assert (told.exit_code, "another ingest runs" in told.output) == (1, True)


@pytest.mark.parametrize("verb", ["migrate", "login-url"])
def test_a_database_of_a_newer_program_is_left_alone(made: Config, verb: str) -> None:
    engine = db.open_engine(made.database)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    told = govah_fleet(verb, "--data-dir", str(made.data_dir))
    assert told.exit_code == 1
    assert "schema 9999 of a newer program" in told.output
