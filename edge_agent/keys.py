"""The files with keys that a terminal holds or trusts. The only place where a private key is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from edge_agent.cards.errors import TrustListRefusedError
from edge_agent.cards.trust import TrustList
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keys:
    """`certificate` is DER. `card_issuers` is None when the trust list is missing or refused: no visit may start."""

    own: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes
    registry: ec.EllipticCurvePublicKey
    nix: ec.EllipticCurvePublicKey
    card_issuers: TrustList | None


def load_keys(config: AgentConfig) -> Keys:
    """Read every key file that the configuration names.

    Raises:
        ConfigError: naming each file that is missing or holds something else.
    """
    problems: list[str] = []
    registry = _public_key(config.path(config.registry.registry_key), problems)
    nix = _public_key(config.path(config.registry.nix_key), problems)
    own = _private_key(config.path(config.fleet.key), problems)
    certificate = _certificate(config.path(config.fleet.certificate), problems)
    if problems or registry is None or nix is None or own is None:
        raise ConfigError(problems)
    return Keys(own, certificate, registry, nix, _trust_list(config.path(config.registry.trust_list)))


def _public_key(path: Path, problems: list[str]) -> ec.EllipticCurvePublicKey | None:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as exc:
        problems.append(f"{path.name}: {exc}")
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    problems.append(f"{path.name}: not a P-256 key")
    return None


def _private_key(path: Path, problems: list[str]) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as exc:
        problems.append(f"{path.name}: {exc}")
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    problems.append(f"{path.name}: not a P-256 key")
    return None


def _certificate(path: Path, problems: list[str]) -> bytes:
    try:
        return load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as exc:
        problems.append(f"{path.name}: {exc}")
        return b""


def _trust_list(path: Path) -> TrustList | None:
    try:
        return TrustList.from_pem(path.read_bytes())
    except (OSError, TrustListRefusedError) as exc:
        _log.error("trust_list_missing", reason=str(exc))
        return None
