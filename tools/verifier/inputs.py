"""Reads tokens and registry keys from files. The only part of the verifier that touches the disk."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from wire import cose

MAX_TOKEN_FILE_BYTES = 16 * 1024
MAX_KEY_FILE_BYTES = 64 * 1024
MAX_KEY_FILES = 64
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+={0,2}")


class UnreadableError(Exception):
    """A file cannot be used, so nothing can be said of the token. `str()` is a clause for the person who asked."""


@dataclass(slots=True)
class Keys:
    """Registry keys by key id, and a clause for every file or part of a file that gave none."""

    by_id: dict[bytes, ec.EllipticCurvePublicKey] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_token(name: str) -> bytes:
    """The bytes of the token in the file `name` (``-``: standard input), raw or as base64url text.

    Text must be in its one form: letters that decode to the same bytes by way of unused bits are passed on as they
    are, and then are no token.

    Raises:
        UnreadableError: no such file, not readable, or larger than any token.
    """
    if name == "-":
        data = _limited(sys.stdin.buffer, "standard input", MAX_TOKEN_FILE_BYTES)
    else:
        data = _read(Path(name), MAX_TOKEN_FILE_BYTES)
    text = b"".join(data.split()).rstrip(b"=")
    if not text or _BASE64URL.fullmatch(text) is None:
        return data
    try:
        token = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return data
    return token if base64.urlsafe_b64encode(token).rstrip(b"=") == text else data


def read_keys(names: tuple[str, ...]) -> Keys:
    """P-256 public keys and certificates from PEM files, and from the ``*.pem`` files of directories.

    The keys are trusted because the caller names them: a certificate here is only a wrapping of its key.

    Raises:
        UnreadableError: a name that does not exist or cannot be read, or too many files.
    """
    keys = Keys()
    paths = [path for name in names for path in _key_files(Path(name))]
    if len(paths) > MAX_KEY_FILES:
        raise UnreadableError(f"more than {MAX_KEY_FILES} key files")
    for path in paths:
        try:
            _add(keys, path)
        except UnreadableError as exc:
            keys.problems.append(str(exc))
    return keys


def _key_files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(entry for entry in path.iterdir() if entry.suffix == ".pem" and entry.is_file())
        if not path.exists():
            raise UnreadableError(f"{path.name}: there is no such key file")
    except OSError as exc:
        raise UnreadableError(f"{path.name}: {exc.strerror or 'cannot be read'}") from exc
    return [path]


def _add(keys: Keys, path: Path) -> None:
    blocks = list(_PEM.finditer(_read(path, MAX_KEY_FILE_BYTES)))
    if not blocks:
        raise UnreadableError(f"{path.name}: not a PEM file")
    for number, block in enumerate(blocks, 1):
        where = path.name if len(blocks) == 1 else f"{path.name}, part {number}"
        try:
            key = _public_key(block[1], block[0])
        except UnreadableError as exc:
            keys.problems.append(f"{where}: {exc}")
        else:
            keys.by_id[cose.key_id(key)] = key


def _public_key(label: bytes, pem: bytes) -> ec.EllipticCurvePublicKey:
    if label.endswith(b"PRIVATE KEY"):
        raise UnreadableError("a private key; verifying needs public keys only, keep this one away from here")
    if label not in (b"PUBLIC KEY", b"CERTIFICATE"):
        raise UnreadableError("neither a public key nor a certificate")
    try:
        key: object = (
            load_pem_public_key(pem) if label == b"PUBLIC KEY" else x509.load_pem_x509_certificate(pem).public_key()
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise UnreadableError("damaged, or of a kind that is not supported") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnreadableError("not a key on P-256")
    return key


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file, path.name, limit)
    except (OSError, ValueError) as exc:
        raise UnreadableError(f"{path.name}: {getattr(exc, 'strerror', None) or 'cannot be read'}") from exc


def _limited(file: BinaryIO, name: str, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableError(f"{name}: larger than {limit} bytes")
    return data
