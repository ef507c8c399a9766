"""The door to a simulated party's data directory: keys and certificates as PEM files, made once and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


class PartyFileError(Exception):
    """A file of the data directory, or one named on the command line, cannot be used; the operator is told which."""


def replace(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `path` whole or not at all; the bytes are on disk when this returns."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def private_directory(path: Path) -> Path:
    """Make `path` if it is not there; whatever is in it, only its owner gets at it from now on."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def private_file(path: Path) -> Path:
    """Make `path` empty if it is not there, for its owner only; SQLite gives its other files the same mode."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path


def secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The secret kept at `path`, made by `make` the first time; readable by its owner only."""
    if not path.exists():
        replace(path, make(), mode=0o600)
    return path.read_bytes()


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key kept at `path`, made the first time; readable by its owner only.

    Raises:
        PartyFileError: the file is there but is not such a key.
    """
    if not path.exists():
        replace(path, private_pem(ec.generate_private_key(ec.SECP256R1())), mode=0o600)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as exc:
        raise PartyFileError(f"{path} is not a private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PartyFileError(f"{path} is not a P-256 key")
    return key


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 PEM without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificates(path: Path) -> list[x509.Certificate]:
    """Every certificate of a PEM file, at least one.

    Raises:
        PartyFileError: no such file, or no certificate in it.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise PartyFileError(f"{path} holds no certificate") from exc
