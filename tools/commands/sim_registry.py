"""`govah sim registry`: the civil registry, simulated."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

import click

from edge_agent.cards.trust import TrustList
from tools.simulators import issuer
from tools.simulators.party import files, serving, tls
from tools.simulators.registry import app
from tools.simulators.registry.cards import SimulatedCardOffice
from tools.simulators.registry.office import Office, PseudonymKeys
from tools.simulators.registry.operator import Misbehaviour, operator
from tools.simulators.registry.store import Store
from tools.simulators.registry.verification import RateLimit, Verification

_LOOPBACK = "127.0.0.1"
_REALISTIC_DELAY_S = 0.12
_QUESTIONS_PER_MINUTE = 60
_CLIENTS_MAX = 10_000
_SECRET_BYTES = 32


@click.command()
@click.option("--data", "data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Data directory.")
@click.option("--host", default=_LOOPBACK, show_default=True, help="Address of the two listeners that have peers.")
@click.option("--port", default=0, show_default=True, help="Port for the exchange; 0 takes a free one.")
@click.option("--public-port", default=0, show_default=True, help="Port of the verification page.")
@click.option(
    "--terminal-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="PEM of the authorities that certify terminals.",
)
@click.option("--ca-dir", type=click.Path(path_type=Path, file_okay=False), help="The TLS authority; default DATA/ca.")
@click.option("--fast", is_flag=True, help="No realistic delays.")
def registry(
    *, data: Path, host: str, port: int, public_port: int, terminal_ca: Path, ca_dir: Path | None, fast: bool
) -> None:
    """Serve the simulated civil registry until SIGTERM; one line of JSON says when it is up and where.

    `url` is for the exchange (client certificate `client`), `public_url` has /verify, `operator_url` has /sim/....
    """
    files.private_directory(data)
    serving.log_to_stderr(with_times=True)
    ca = tls.authority(ca_dir or data / "ca", "SIMULATED registry TLS", now_ms=_now_ms())
    certificate = tls.server(ca, data / "server.pem", _names(host), now_ms=_now_ms())
    client = tls.client(ca, ca.directory / "exchange-client.pem", "nix", now_ms=_now_ms())
    public_key = data / "registry-key.pub.pem"
    key = files.private_key(data / "registry-key.pem")
    files.replace(public_key, files.public_pem(key.public_key()))
    try:
        store = Store(data / "registry.db")
        office = Office(
            store=store,
            cards=SimulatedCardOffice(TrustList.from_pem(issuer.trust_list_pem())),
            key=key,
            pseudonyms=PseudonymKeys(
                *(files.secret(data / name, lambda: secrets.token_bytes(_SECRET_BYTES)) for name in ("k-sub", "k-crf"))
            ),
            authorities=files.certificates(terminal_ca),
            now_ms=_now_ms,
            chance=secrets.token_bytes,
        )
    except (OSError, sqlite3.Error, files.PartyFileError) as exc:
        raise click.ClickException(str(exc)) from exc
    misbehaviour = Misbehaviour()
    limit = RateLimit(per_minute=_QUESTIONS_PER_MINUTE, clients_max=_CLIENTS_MAX, now_ms=_now_ms)
    exchange = app.exchange(office, misbehaviour, delay_s=0 if fast else _REALISTIC_DELAY_S)
    public = app.public(Verification(store, key, _now_ms), limit)
    listeners = [
        serving.Listener(exchange, host, port, certificate, client_authority=ca.certificate),
        serving.Listener(public, host, public_port, certificate),
        serving.Listener(operator(store, misbehaviour), _LOOPBACK, 0, certificate),
    ]

    def ready(urls: list[str]) -> dict[str, Any]:
        return {
            "url": urls[0],
            "public_url": urls[1],
            "operator_url": urls[2],
            "ca": str(ca.certificate.resolve()),
            "client": str(client.resolve()),
            "registry_key": str(public_key.resolve()),
            "pid": os.getpid(),
            "data_dir": str(data.resolve()),
        }

    try:
        asyncio.run(serving.serve(listeners, ready))
    finally:
        store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _names(host: str) -> list[str]:
    return list(dict.fromkeys([host, _LOOPBACK, "::1", "localhost"]))
