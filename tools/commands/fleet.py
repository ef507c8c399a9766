"""`govah fleet`: make a fleet server, list terminals, log in, and run its four processes."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import sqlalchemy as sa

from fleet_server import admin, db, enrolment, ids, installation, logs
from fleet_server import config as configuration
from fleet_server.config import BrokerConfig, Config, EstConfig, IngestConfig, WebConfig
from fleet_server.errors import ConfigError, RequestRefusedError

F = TypeVar("F", bound=Callable[..., Any])
_DATA_DIR = click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    help="Where the fleet server keeps everything.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_PORT = click.IntRange(1, 65535)


@click.group()
def fleet() -> None:
    """The fleet server: set up, enrol terminals, log in, serve."""


@fleet.command()
@_DATA_DIR
@click.option("--web-port", type=_PORT, help="Pages and API. Default: a free port, as for the others.")
@click.option("--est-port", type=_PORT, help="Enrolment.")
@click.option("--broker-port", type=_PORT, help="MQTT over TLS.")
@click.option("--metrics-port", type=_PORT, help="The ingest's metrics, on loopback.")
@click.option("--host", "hosts", multiple=True, help="Names and addresses for the servers' certificates.")
@click.option("--mark-interval", type=click.IntRange(2, 3600), default=60, show_default=True, help="Seconds.")
@click.option("--health-interval", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds.")
@_JSON
def init(
    data_dir: Path,
    *,
    web_port: int | None,
    est_port: int | None,
    broker_port: int | None,
    metrics_port: int | None,
    hosts: tuple[str, ...],
    mark_interval: int,
    health_interval: int,
    as_json: bool,
) -> None:
    """Make DATA_DIR: fleet CA, certificates, configuration, database."""
    local = "127.0.0.1"
    ports = [port or installation.free_port(local) for port in (web_port, est_port, broker_port, metrics_port)]
    config = Config(
        data_dir=data_dir,
        web=WebConfig(port=ports[0]),
        est=EstConfig(port=ports[1]),
        broker=BrokerConfig(port=ports[2]),
        ingest=IngestConfig(metrics_port=ports[3], mark_interval_s=mark_interval, health_interval_s=health_interval),
    )
    with _told():
        installation.create(config, now=datetime.now(UTC), chance=os.urandom, hosts=hosts or installation.HOSTS)
    made = {
        "data_dir": str(data_dir),
        "ca": str(config.layout.ca_certificate),
        "web": f"http://{local}:{ports[0]}",
        "est": f"https://{local}:{ports[1]}",
        "broker": {"host": local, "port": ports[2]},
        "metrics": f"http://{local}:{ports[3]}/metrics",
    }
    _say(as_json, made, f"Made {data_dir}. Next: govah fleet serve broker|ingest|est|web --data-dir {data_dir}")


@fleet.command()
@click.argument("serial")
@_DATA_DIR
@_JSON
def add(serial: str, data_dir: Path, *, as_json: bool) -> None:
    """List SERIAL and print the one-time code with which it enrols. Repeating it makes a new code."""
    code = enrolment.make_code(os.urandom(enrolment.CODE_ENTROPY_BYTES))
    with _told():
        config = configuration.load(data_dir)
        with db.writing(_database(config)) as connection:
            expires_ms = enrolment.add_terminal(
                connection, serial, code=code, now_ms=_now_ms(), life_s=config.est.code_life_s, new_id=_new_id
            )
    est = f"https://{config.est.host}:{config.est.port}"
    told = {"terminal": serial, "code": code, "expires_ms": expires_ms, "est": est}
    until = datetime.fromtimestamp(expires_ms // 1000, UTC).isoformat()
    _say(as_json, told, f"{code}\nfor {serial}, once, until {until}, at {est}")


@fleet.command("login-url")
@_DATA_DIR
@_JSON
def login_url(data_dir: Path, *, as_json: bool) -> None:
    """Print a URL that logs an administrator in, once."""
    token = secrets.token_urlsafe(admin.TOKEN_BYTES)
    with _told():
        config = configuration.load(data_dir)
        with db.writing(_database(config)) as connection:
            admin.add_link(connection, token, now_ms=_now_ms())
    url = f"{config.web.url}{admin.LOGIN_PATH}{token}"
    _say(as_json, {"url": url}, url)


@fleet.command()
@_DATA_DIR
@_JSON
def migrate(data_dir: Path, *, as_json: bool) -> None:
    """Bring the database to the schema of this program. Stop the fleet server before; the broker may go on."""
    with _told():
        config = configuration.load(data_dir)
        with installation.only_ingest(config.layout):
            db.migrate(db.open_engine(config.database))
    _say(as_json, {"data_dir": str(data_dir)}, f"The database of {data_dir} has the newest schema.")


@fleet.command()
@click.argument("what", type=click.Choice(["web", "est", "ingest", "broker"]))
@_DATA_DIR
def serve(what: str, data_dir: Path) -> None:
    """Run one process of the fleet server until SIGTERM. It prints one JSON line when it is ready."""
    logs.configure()
    with _told():
        _SERVE[what](configuration.load(data_dir))


def _serve_web(config: Config) -> None:
    from fleet_server.app import create_app
    from fleet_server.serving import serve as serve_http

    _database(config).dispose()
    web = config.web
    serve_http(create_app(config, tls=web.tls is not None), role="web", host=web.host, port=web.port, tls=web.tls)


def _serve_est(config: Config) -> None:
    from fleet_server.est import create_est_app
    from fleet_server.serving import serve as serve_http

    app = create_est_app(config, _database(config))
    tls = (config.layout.certificate("est"), config.layout.key("est"))
    serve_http(app, role="est", host=config.est.host, port=config.est.port, tls=tls)


def _serve_ingest(config: Config) -> None:
    from fleet_server.ingest.process import run

    _database(config).dispose()
    run(config)


def _serve_broker(config: Config) -> None:
    from fleet_server.broker.mosquitto import run

    run(config)


_SERVE: dict[str, Callable[[Config], None]] = {
    "web": _serve_web, "est": _serve_est, "ingest": _serve_ingest, "broker": _serve_broker,
}  # fmt: skip


class _told:  # noqa: N801 - reads as a word in a with statement
    """What is wrong with the files or the request is a sentence for the person, not a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case ConfigError():
                raise click.ClickException("\n".join(error.problems)) from error
            case RequestRefusedError():
                raise click.ClickException(error.reason) from error


def _say(as_json: bool, facts: dict[str, Any], sentence: str) -> None:  # noqa: FBT001 - a flag of the command line
    click.echo(json.dumps(facts) if as_json else sentence)


def _database(config: Config) -> sa.Engine:
    """The database, whose schema is the one of this program.

    Raises:
        ConfigError: it is not.
    """
    engine = db.open_engine(config.database)
    db.check_schema(engine)
    return engine


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id() -> bytes:
    return ids.uuid7(_now_ms(), 0, os.urandom(ids.ENTROPY_BYTES))
