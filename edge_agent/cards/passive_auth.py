"""Passive authentication (ICAO 9303-11 clause 5.1): the data on the card is what the issuing authority signed.

It does not say that the chip is the one that it was written to: a copy passes. That is what `verdict` is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.cards.errors import CardNotAuthenticError
from edge_agent.cards.security_object import SecurityObject, parse
from edge_agent.cards.trust import ChainFault, TrustList, chain_fault, ec_public_key

__all__ = ["Check", "PassiveAuthentication", "TrustList", "authenticate", "authenticate_hashes"]

MIN_CURVE_BITS: Final = 256


class Check(StrEnum):
    """The checks, in the order in which they are made. `CardNotAuthenticError.check` is one of these."""

    SIGNER_KNOWN = "document_signer_known"
    SIGNER_IN_FORCE = "document_signer_in_force"
    SIGNER_KEY_USAGE = "document_signer_key_usage"
    ALGORITHMS = "algorithms"
    SIGNED_ATTRIBUTES = "signed_attributes"
    SIGNATURE = "signature"
    GROUP_PRESENT = "group_present"
    GROUP_LISTED = "group_listed"
    GROUP_HASH = "group_hash"


_FAULTS: Final = {
    ChainFault.UNKNOWN_ISSUER: Check.SIGNER_KNOWN,
    ChainFault.NOT_IN_FORCE: Check.SIGNER_IN_FORCE,
    ChainFault.KEY_USAGE: Check.SIGNER_KEY_USAGE,
    ChainFault.CRITICAL_EXTENSION: Check.SIGNER_KEY_USAGE,
    ChainFault.ALGORITHM: Check.ALGORITHMS,
}


@dataclass(frozen=True, slots=True)
class PassiveAuthentication:
    """Holding one is the proof: every check of `checks` was made and passed."""

    checks: tuple[Check, ...]
    hash_algorithm: str
    """``sha256``, ``sha384`` or ``sha512``: that of the group hashes."""
    group_hashes: Mapping[int, bytes] = field(repr=False)
    """The hash of each group that was checked; they would tell two citizens apart, so they stay out of logs."""
    document_signer: x509.Certificate = field(repr=False)


def authenticate(
    security_object: bytes, groups: Mapping[int, bytes], trust: TrustList, at: int
) -> PassiveAuthentication:
    """Check `groups` (number to bytes as read) against EF.SOD as read, at `at` (Unix seconds).

    Raises:
        CardDataError: the security object is not one.
        CardNotAuthenticError: a check failed; it says which.
    """
    parsed = parse(security_object)
    hashed = {number: hashlib.new(parsed.group_algorithm, data).digest() for number, data in groups.items()}
    return _authenticate(parsed, hashed, trust, at)


def authenticate_hashes(
    security_object: bytes, group_hashes: Mapping[int, bytes], trust: TrustList, at: int
) -> PassiveAuthentication:
    """As `authenticate`, for one who was given the hashes of the groups and not the groups."""
    return _authenticate(parse(security_object), group_hashes, trust, at)


def _authenticate(
    parsed: SecurityObject, group_hashes: Mapping[int, bytes], trust: TrustList, at: int
) -> PassiveAuthentication:
    fault = chain_fault(parsed.document_signer, trust.country_signers, at)
    if fault is not None:
        raise CardNotAuthenticError(_FAULTS[fault])
    _check_signature(parsed)
    if 1 not in group_hashes:
        raise CardNotAuthenticError(Check.GROUP_PRESENT)
    for number, value in group_hashes.items():
        if number not in parsed.group_hashes:
            raise CardNotAuthenticError(Check.GROUP_LISTED)
        if parsed.group_hashes[number] != value:
            raise CardNotAuthenticError(Check.GROUP_HASH)
    return PassiveAuthentication(
        tuple(Check), parsed.group_algorithm, MappingProxyType(dict(group_hashes)), parsed.document_signer
    )


def _check_signature(parsed: SecurityObject) -> None:
    """The signed attributes name the content, and the document signer signed them (RFC 5652 clause 5.4)."""
    key = ec_public_key(parsed.document_signer)
    if key.curve.key_size < MIN_CURVE_BITS or parsed.signature_hash != parsed.digest_algorithm:
        raise CardNotAuthenticError(Check.ALGORITHMS)
    if hashlib.new(parsed.digest_algorithm, parsed.content).digest() != parsed.message_digest:
        raise CardNotAuthenticError(Check.SIGNED_ATTRIBUTES)
    try:
        key.verify(parsed.signature, parsed.signed_attributes, ec.ECDSA(_HASH_CLASSES[parsed.signature_hash]()))
    except (InvalidSignature, UnsupportedAlgorithm) as exc:
        raise CardNotAuthenticError(Check.SIGNATURE) from exc


_HASH_CLASSES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
