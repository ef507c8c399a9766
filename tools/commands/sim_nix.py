"""`govah sim nix`: the national exchange, simulated."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

import click
import httpx

from tools.simulators.nix import app
from tools.simulators.nix import matrix as matrices
from tools.simulators.nix.exchange import Exchange
from tools.simulators.nix.registry_link import RegistryLink, context
from tools.simulators.nix.store import Store
from tools.simulators.party import files, serving, tls

_LOOPBACK = "127.0.0.1"
_REALISTIC_DELAY_S = 0.03
_MATRIX = Path(matrices.__file__).with_name("matrix.json")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--data", "data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Data directory.")
@click.option("--host", default=_LOOPBACK, show_default=True, help="Address of the listener for terminals.")
@click.option("--port", default=0, show_default=True, help="Its port; 0 takes a free one.")
@click.option("--terminal-ca", type=_FILE, required=True, help="PEM of the authorities that certify terminals.")
@click.option("--registry", required=True, help="The registry's `url`.")
@click.option("--registry-ca", type=_FILE, required=True, help="The registry's `ca`.")
@click.option(
    "--registry-client", type=_FILE, help="The registry's `client`; default exchange-client.pem beside --registry-ca."
)
@click.option("--registry-timeout-s", default=5.0, show_default=True, help="How long to wait for the registry.")
@click.option("--matrix", "matrix_file", type=_FILE, default=_MATRIX, help="Another permission matrix.")
@click.option("--ca-dir", type=click.Path(path_type=Path, file_okay=False), help="The TLS authority; default DATA/ca.")
@click.option("--fast", is_flag=True, help="No realistic delays.")
def nix(
    *,
    data: Path,
    host: str,
    port: int,
    terminal_ca: Path,
    registry: str,
    registry_ca: Path,
    registry_client: Path | None,
    registry_timeout_s: float,
    matrix_file: Path,
    ca_dir: Path | None,
    fast: bool,
) -> None:
    """Serve the simulated national exchange until SIGTERM; one line of JSON says when it is up and where.

    `url` is for terminals, `operator_url` has /nix/v1/log.
    """
    files.private_directory(data)
    serving.log_to_stderr(with_times=False)  # its log knows buckets of time only
    ca = tls.authority(ca_dir or data / "ca", "SIMULATED exchange TLS", now_ms=_now_ms())
    certificate = tls.server(
        ca, data / "server.pem", list(dict.fromkeys([host, _LOOPBACK, "::1", "localhost"])), now_ms=_now_ms()
    )
    public_key = data / "nix-key.pub.pem"
    key = files.private_key(data / "nix-key.pem")
    files.replace(public_key, files.public_pem(key.public_key()))
    try:
        trust = context(registry_ca, registry_client or registry_ca.with_name("exchange-client.pem"))
        permitted = matrices.load(matrix_file.read_bytes())
        authorities = files.certificates(terminal_ca)
        store = Store(data / "nix.db")
    except (OSError, sqlite3.Error, matrices.MatrixError, files.PartyFileError) as exc:
        raise click.ClickException(str(exc)) from exc

    async def run() -> None:
        async with httpx.AsyncClient(
            base_url=registry, verify=trust, trust_env=False, follow_redirects=False, timeout=registry_timeout_s
        ) as http:
            link = RegistryLink(http)
            exchange = Exchange(
                store, permitted, authorities, key, link.inquire, now_ms=_now_ms, chance=secrets.token_bytes
            )
            listeners = [
                serving.Listener(
                    app.terminals(exchange, link.time, delay_s=0 if fast else _REALISTIC_DELAY_S),
                    host,
                    port,
                    certificate,
                ),
                serving.Listener(app.operator(store), _LOOPBACK, 0, certificate),
            ]
            await serving.serve(listeners, ready)

    def ready(urls: list[str]) -> dict[str, Any]:
        return {
            "url": urls[0],
            "operator_url": urls[1],
            "ca": str(ca.certificate.resolve()),
            "key": str(public_key.resolve()),
            "pid": os.getpid(),
            "data_dir": str(data.resolve()),
        }

    try:
        asyncio.run(run())
    finally:
        store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
