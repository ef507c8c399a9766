"""States of a fleet that the tests start from."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet_server import db, ids

NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="session")
def empty_fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty, migrated fleet database, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "fleet.sqlite"
    engine = db.open_engine(f"sqlite:///{path}")
    db.migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def engine(tmp_path: Path, empty_fleet: Path) -> Iterator[sa.Engine]:
    """An empty, migrated fleet database in a file."""
    path = tmp_path / "fleet.sqlite"
    shutil.copy(empty_fleet, path)
    engine = db.open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture
def listed(engine: sa.Engine) -> sa.Engine:
    """The database with the terminals ``t-1`` and ``t-2``, listed and never heard of."""
    with db.writing(engine) as connection:
        rows = [{"serial": serial, "added_ms": NOW_MS} for serial in ("t-1", "t-2")]
        db.insert_ignoring(connection, db.terminals, rows)
    return engine


class Ids:
    """Row ids without chance: the time, then a counter."""

    def __init__(self) -> None:
        self._counter = itertools.count()

    def __call__(self, at_ms: int = NOW_MS) -> bytes:
        number = next(self._counter)
        return ids.uuid7(at_ms, number, number.to_bytes(ids.ENTROPY_BYTES))


@pytest.fixture
def new_id() -> Ids:
    return Ids()
