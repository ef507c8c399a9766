from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fleet_server import db
from fleet_server.ingest.batch import FactRow
from fleet_server.queries import data_version


def test_the_migrations_make_exactly_the_tables_that_the_code_names(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), db.metadata) == []


def test_migrating_twice_changes_nothing(engine: sa.Engine) -> None:
    db.migrate(engine)
    with db.reading(engine) as connection:
        assert data_version(connection) == 1


def test_a_commit_survives_power_loss_and_foreign_keys_hold(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_every_table_that_grows_with_traffic_is_keyed_by_the_terminal_first() -> None:
    for table in (db.facts, db.journals, db.timeline, db.anomalies, db.commands):
        assert next(iter(table.primary_key)).name == "terminal"


def test_a_writing_transaction_is_seen_by_its_revision_and_a_failed_one_is_not(engine: sa.Engine) -> None:
    with db.writing(engine) as connection:
        db.insert_ignoring(connection, db.terminals, [{"serial": "t-1", "added_ms": 1}])

    def fail() -> None:
        with db.writing(engine) as connection:
            db.insert_ignoring(connection, db.terminals, [{"serial": "t-2", "added_ms": 1}])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with db.reading(engine) as connection:
        assert data_version(connection) == 2
        assert connection.execute(sa.select(db.terminals.c.serial)).scalars().all() == ["t-1"]


def test_insert_ignoring_counts_what_is_new_and_leaves_the_old_alone(engine: sa.Engine) -> None:
    with db.writing(engine) as connection:
        assert db.insert_ignoring(connection, db.terminals, [{"serial": "a", "added_ms": 1}]) == 1
        rows = [{"serial": name, "added_ms": 2} for name in ("a", "b", "c")]
        assert db.insert_ignoring(connection, db.terminals, rows) == 2
        stored = connection.execute(sa.select(db.terminals.c.serial, db.terminals.c.added_ms)).all()
    assert [tuple(row) for row in stored] == [("a", 1), ("b", 2), ("c", 2)]


def test_the_rows_of_the_ingest_are_in_the_order_of_the_columns() -> None:
    assert tuple(db.facts.columns.keys()) == FactRow.__struct_fields__


def test_the_plain_insert_also_counts_what_is_new(engine: sa.Engine) -> None:
    rows = [("a", 1), ("b", 1)]
    table = sa.Table("pairs", sa.MetaData(), sa.Column("k", sa.String, primary_key=True), sa.Column("v", sa.Integer))
    with db.writing(engine) as connection:
        table.create(connection)
        assert db.insert_ignoring_plain(connection, table, rows) == 2
        assert db.insert_ignoring_plain(connection, table, [*rows, ("c", 1)]) == 1
        assert db.insert_ignoring_plain(connection, table, []) == 0
