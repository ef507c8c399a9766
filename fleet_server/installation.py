"""The data directory: made once by `govah fleet init`, opened by every process. The only file that touches CA files."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleet_server import ca, db
from fleet_server import config as configuration
from fleet_server.config import Config, Layout
from fleet_server.errors import ConfigError, RequestRefusedError

HOSTS: Final = ("localhost", "127.0.0.1")
"""What our servers' certificates are good for unless `init` is told of more."""


def free_port(host: str) -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def create(config: Config, *, now: datetime, chance: Callable[[int], bytes], hosts: Sequence[str] = HOSTS) -> None:
    """Make the data directory of `config`, whole or not at all: CA, certificates, empty CRL, configuration, database.

    Args:
        config: with the `data_dir` to make; it may exist only if it is empty.
        now: aware UTC time.
        chance: gives that many random bytes, `os.urandom`.
        hosts: names and addresses in our servers' certificates.

    Raises:
        RequestRefusedError: the directory is there and not empty, or cannot be made.
    """
    target = config.data_dir
    staging = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        if target.exists() and any(target.iterdir()):
            raise RequestRefusedError(f"{target} is not empty")
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir(mode=0o700)
        try:
            _fill(Layout(staging), config, now, chance, hosts)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as exc:
        raise RequestRefusedError(f"{target}: {exc.strerror}") from exc


def _fill(layout: Layout, config: Config, now: datetime, chance: Callable[[int], bytes], hosts: Sequence[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = ca.found(key, name=chance(ca.NAME_BYTES), serial=chance(ca.SERIAL_BYTES), now=now)
    _write(layout.ca_key, _pem(key))
    _write(layout.ca_certificate, authority.certificate.public_bytes(Encoding.PEM))
    for name in ("broker", "est"):
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = ca.issue_server(authority, own.public_key(), serial=chance(ca.SERIAL_BYTES), now=now, hosts=hosts)
        _write(layout.key(name), _pem(own))
        _write(layout.certificate(name), certificate.public_bytes(Encoding.PEM))
    own = ec.generate_private_key(ec.SECP256R1())
    certificate = ca.issue_ingest(
        authority, own.public_key(), serial=chance(ca.SERIAL_BYTES), now=now, crl_url=crl_url(config)
    )
    _write(layout.key("ingest"), _pem(own))
    _write(layout.certificate("ingest"), certificate.public_bytes(Encoding.PEM))
    crl = ca.revocation_list(authority, now=now, number=1, revoked=[])
    _write(layout.crl, crl.public_bytes(Encoding.PEM))
    _write(layout.config, configuration.render(config).encode())
    # created here so that it is private before SQLite opens it
    _write(layout.database, b"")
    engine = db.open_engine(config.database_url or f"sqlite:///{layout.database}")
    db.migrate(engine)
    engine.dispose()


def crl_url(config: Config) -> str:
    """Where the CRL is served: by the enrolment listener."""
    host = f"[{config.est.host}]" if ":" in config.est.host else config.est.host
    return f"https://{host}:{config.est.port}/crl"


def authority(layout: Layout) -> ca.Authority:
    """The CA of this installation.

    Raises:
        ConfigError: its files are missing or are not a P-256 key with its certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(layout.ca_certificate.read_bytes())
        key = load_pem_private_key(layout.ca_key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError([f"the fleet CA in {layout.data_dir} cannot be read: {type(exc).__name__}"]) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(["ca.key is not the key of ca.pem"])
    return ca.Authority(certificate, key)


@contextmanager
def only_ingest(layout: Layout) -> Iterator[None]:
    """Hold the data directory's ingest lock. It is the kernel's: it goes with the process, however that ends.

    Raises:
        ConfigError: another ingest holds it, or the directory cannot be written.
    """
    try:
        file = layout.ingest_lock.open("w")
    except OSError as exc:
        raise ConfigError([f"{layout.ingest_lock}: {exc.strerror}"]) from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(["another ingest runs on this data directory"]) from exc
        yield


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    """Create `path` readable by its owner only, and never over another file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
