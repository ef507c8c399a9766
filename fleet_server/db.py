"""The fleet's tables, the engine, and the two kinds of transaction. No query lives here (`queries.py`, `ingest/`).

The schema is written for SQLite and for PostgreSQL, sharded or not (docs/adr/0007): the key of every table that grows
with traffic begins with the terminal, ids are made by us (UUIDv7, never a sequence), values such as the time are
parameters and never `now()`, and there is no trigger, no advisory lock and no unique key without the terminal.

Nothing here can hold a citizen's data: a fact's `body` is a `wire.messages.Fact`, which has no field for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import ConnectionPoolEntry

from fleet_server.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

BUSY_TIMEOUT_MS: Final = 10_000
_WRITE_OPTION: Final = "govah_write"

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _terminal(**options: Any) -> sa.Column[str]:
    return sa.Column("terminal", sa.String(40), sa.ForeignKey("terminals.serial"), nullable=False, **options)


terminals: Final = sa.Table(
    "terminals",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
    sa.Column("enrolled_ms", sa.BigInteger),
    sa.Column("presence", sa.String(8), nullable=False, server_default="never"),
    sa.Column("last_seen_ms", sa.BigInteger),
    sa.Column("boot", sa.LargeBinary(16)),
    sa.Column("session", sa.BigInteger),
    sa.Column("session_ended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("journal", sa.LargeBinary(16)),
    sa.Column("state_at_ms", sa.BigInteger),
    sa.Column("agent", sa.String(64)),
    sa.Column("profile", sa.String(64)),
    sa.Column("reader", sa.Integer),
    sa.Column("clock_trusted", sa.Boolean),
    sa.Column("blocked", sa.JSON(none_as_null=True)),
    sa.Column("facts_unsent", sa.BigInteger),
    sa.Column("facts_kept", sa.BigInteger),
    sa.Column("journal_bytes", sa.BigInteger),
    sa.Column("rss_kib", sa.BigInteger),
    sa.Column("uptime_s", sa.BigInteger),
    sa.Column("health_session", sa.BigInteger),
    sa.Column("health_at_ms", sa.BigInteger),
    sa.CheckConstraint("presence IN ('never', 'online', 'left', 'lost')", name="presence"),
)
"""One row per terminal: what it last reported. `presence` is our judgement; `*_at_ms` are the terminal's clock,
every other `*_ms` is the server's. `session_ended` says that the leave or the will of `session` has been seen."""

enrolment_codes: Final = sa.Table(
    "enrolment_codes",
    metadata,
    sa.Column("serial", sa.String(40), sa.ForeignKey("terminals.serial"), primary_key=True),
    sa.Column("code_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("used_ms", sa.BigInteger),
    sa.Column("csr_hash", sa.LargeBinary(32)),
    sa.Column("certificate", sa.String(40)),
)
"""The one live code of a terminal. After its use, `csr_hash` and `certificate` let a lost answer be asked for again."""

certificates: Final = sa.Table(
    "certificates",
    metadata,
    sa.Column("serial_number", sa.String(40), primary_key=True),
    _terminal(index=True),
    sa.Column("pem", sa.Text, nullable=False),
    sa.Column("not_before_ms", sa.BigInteger, nullable=False),
    sa.Column("not_after_ms", sa.BigInteger, nullable=False),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("revoked_ms", sa.BigInteger),
)

journals: Final = sa.Table(
    "journals",
    metadata,
    _terminal(primary_key=True),
    sa.Column("journal", sa.LargeBinary(16), primary_key=True),
    sa.Column("stored_through", sa.BigInteger, nullable=False),
    sa.Column("first_seq", sa.BigInteger),
    sa.Column("last_seq", sa.BigInteger),
)
"""Every fact of the journal up to `stored_through` is stored, or can never come (`ingest/watermark.py`).
`first_seq` and `last_seq` are what the terminal said at its last birth; `last_seq` is NULL until the first one."""

facts: Final = sa.Table(
    "facts",
    metadata,
    _terminal(primary_key=True),
    sa.Column("journal", sa.LargeBinary(16), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("received_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("body_hash", sa.LargeBinary(32), nullable=False),
    sa.Index(None, "terminal", "received_ms"),
)
"""`body` is a `wire.messages.Fact` as we encode it, so it holds nothing that we do not know; `body_hash` is SHA-256 of
the bytes that came, and tells a repeat from another fact under the same key."""

timeline: Final = sa.Table(
    "timeline",
    metadata,
    _terminal(primary_key=True),
    sa.Column("id", sa.LargeBinary(16), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

anomalies: Final = sa.Table(
    "anomalies",
    metadata,
    _terminal(primary_key=True),
    sa.Column("id", sa.LargeBinary(16), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

commands: Final = sa.Table(
    "commands",
    metadata,
    _terminal(primary_key=True),
    sa.Column("id", sa.LargeBinary(16), primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("not_after_ms", sa.BigInteger, nullable=False),
    sa.Column("sent_ms", sa.BigInteger),
    sa.Column("result", sa.Integer),
    sa.Column("result_ms", sa.BigInteger),
)
"""The outbox. A command is open while `result` is NULL; `result` is a `wire.failures.Failure`."""

sa.Index(
    "ix_commands_open",
    commands.c.terminal,
    commands.c.not_after_ms,
    sqlite_where=commands.c.result.is_(None),
    postgresql_where=commands.c.result.is_(None),
)

admin_links: Final = sa.Table(
    "admin_links",
    metadata,
    sa.Column("token_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("used_ms", sa.BigInteger),
)

admin_sessions: Final = sa.Table(
    "admin_sessions",
    metadata,
    sa.Column("token_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)

revision: Final = sa.Table(
    "revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""One row, one higher after every writing transaction: how readers in other processes see that something changed."""


def open_engine(url: str) -> sa.Engine:
    """An engine on `url` (``sqlite:////absolute/path`` or PostgreSQL). Connects to nothing yet.

    SQLite gets WAL, ``synchronous=FULL`` (a commit survives power loss), foreign keys and a busy timeout, and lets
    `writing` take its lock at the start, so that no transaction fails half way for another's lock.
    """
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-65536",
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent snapshot for reading."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: committed when the block ends, with `revision` one higher; rolled back when it raises."""
    with engine.connect() as raw:
        connection = raw.execution_options(**{_WRITE_OPTION: True})
        with connection.begin():
            yield connection
            connection.execute(_BUMP)


_BUMP: Final = sa.update(revision).where(revision.c.id == 1).values(value=revision.c.value + 1)


def insert_ignoring(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> int:
    """INSERT `rows`, leaving alone those whose primary key is there already. Returns how many were new."""
    if not rows:
        return 0
    statement = _dialect_insert(connection, table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    return connection.execute(statement, list(rows)).rowcount


def insert_ignoring_plain(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[object, ...]]) -> int:
    """`insert_ignoring` for the largest table: values in the order of the columns, handed to the driver as they are, so
    only int, str and bytes. A third cheaper per row."""
    if not rows:
        return 0
    statement, names = _driver_insert(connection.dialect, table)
    parameters: Any = rows if names is None else [dict(zip(names, row, strict=True)) for row in rows]
    return connection.exec_driver_sql(statement, parameters).rowcount


@lru_cache(maxsize=8)
def _driver_insert(dialect: sa.Dialect, table: sa.Table) -> tuple[str, tuple[str, ...] | None]:
    """The statement in the driver's own words; the names of its parameters unless it takes them by position."""
    kind = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = kind(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    names = tuple(table.columns.keys())
    return str(statement.compile(dialect=dialect, column_keys=names)), None if dialect.positional else names


def upsert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]], update: Sequence[str]
) -> None:
    """INSERT `rows`; where the primary key is there already, set the columns `update` to the new values instead."""
    if not rows:
        return
    statement = _dialect_insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: statement.excluded[name] for name in update}
    )
    connection.execute(statement, list(rows))


def _dialect_insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    # the same words in both dialects, but SQLAlchemy keeps them in two classes
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def migrate(engine: sa.Engine) -> None:
    """Bring the database to the newest schema. Safe to repeat.

    Raises:
        ConfigError: the database is of a newer program, or cannot be opened.
    """
    from alembic import command

    alembic = _alembic()
    with _opened(engine) as raw:
        connection = raw.execution_options(**{_WRITE_OPTION: True})
        with connection.begin():
            _refuse_newer(connection, alembic)
            alembic.attributes["connection"] = connection
            command.upgrade(alembic, "head")


def check_schema(engine: sa.Engine) -> None:
    """Before a program works on the database: its schema must be the one that the code is written for.

    Raises:
        ConfigError: it is another one, or the database cannot be opened.
    """
    alembic = _alembic()
    with _opened(engine) as connection:
        known = _refuse_newer(connection, alembic)
        if _schema_of(connection) != known.get_current_head():
            raise ConfigError(["the database has an older schema: stop the fleet server and run `govah fleet migrate`"])


def _alembic() -> Config:
    from alembic.config import Config

    alembic = Config()
    alembic.set_main_option("script_location", "fleet_server:migrations")
    alembic.set_main_option("path_separator", "os")
    return alembic


@contextmanager
def _opened(engine: sa.Engine) -> Iterator[sa.Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.OperationalError as exc:
        raise ConfigError([f"the database cannot be used: {exc.orig}"]) from exc


def _refuse_newer(connection: sa.Connection, alembic: Config) -> ScriptDirectory:
    """The schemas that the code knows, that of the database among them."""
    from alembic.script import ScriptDirectory

    known = ScriptDirectory.from_config(alembic)
    schema = _schema_of(connection)
    if schema is not None and schema not in {script.revision for script in known.walk_revisions()}:
        raise ConfigError([f"the database has the schema {schema} of a newer program"])
    return known


def _schema_of(connection: sa.Connection) -> str | None:
    """The name of the database's schema; None: it is empty."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()
