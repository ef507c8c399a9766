"""Whom the terminal trusts to issue cards, and the one way in which a certificate is held against that list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding

from edge_agent.cards.errors import CardDataError, TrustListRefusedError

MAX_PEM_BYTES: Final = 1024 * 1024
MAX_CERTIFICATES: Final = 256

CARD_KEY_POLICY: Final = x509.ObjectIdentifier("1.3.6.1.4.1.32473.10.1")
"""Certificate policy of an authority for card keys; any other authority on a list is a country signer.

32473 is the enterprise number for examples (RFC 5612): the registry's own is not public.
"""

E = TypeVar("E", bound=x509.ExtensionType)

_HASHES: Final = (SHA256, SHA384, SHA512)
_KNOWN_CRITICAL: Final = (x509.KeyUsage, x509.BasicConstraints, x509.CertificatePolicies)
_UNREADABLE: Final = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm)


class ChainFault(StrEnum):
    """Why a certificate does not count."""

    UNKNOWN_ISSUER = "unknown_issuer"
    NOT_IN_FORCE = "not_in_force"
    KEY_USAGE = "key_usage"
    ALGORITHM = "algorithm"
    CRITICAL_EXTENSION = "critical_extension"


@dataclass(frozen=True)
class TrustList:
    """Roots by purpose. A country signer never vouches for a card key, nor a card-key authority for card data."""

    country_signers: tuple[x509.Certificate, ...] = field(repr=False)
    card_key_authorities: tuple[x509.Certificate, ...] = field(repr=False)

    @classmethod
    def from_pem(cls, data: bytes) -> TrustList:
        """Read a list of certificates; the policy in each says what for.

        Raises:
            TrustListRefusedError: unreadable, one of the two purposes without a root, or a root that is no authority.
        """
        if len(data) > MAX_PEM_BYTES:
            raise TrustListRefusedError("the trust list is too long")
        try:
            certificates = x509.load_pem_x509_certificates(data)
            card_keys = [certificate for certificate in certificates if _is_for_card_keys(certificate)]
            if len(certificates) > MAX_CERTIFICATES or not all(_is_root(certificate) for certificate in certificates):
                raise TrustListRefusedError("the trust list holds a certificate that is not a root authority's")
        except _UNREADABLE as exc:
            raise TrustListRefusedError("the trust list is not a list of certificates") from exc
        signers = [certificate for certificate in certificates if certificate not in card_keys]
        if not signers or not card_keys:
            raise TrustListRefusedError("the trust list lacks a country signer or an authority for card keys")
        return cls(tuple(signers), tuple(card_keys))


def load_certificate(der: bytes) -> x509.Certificate:
    """One certificate from the card.

    Raises:
        CardDataError: not a certificate, or bytes left over.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.public_bytes(Encoding.DER) != der:
            raise CardDataError("a certificate is not in its one DER form")
    except _UNREADABLE as exc:
        raise CardDataError("a certificate cannot be read") from exc
    return certificate


def ec_public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The certificate's key.

    Raises:
        CardDataError: not an elliptic-curve key that we know.
    """
    try:
        key = certificate.public_key()
    except _UNREADABLE as exc:
        raise CardDataError("a certificate has an unknown key") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CardDataError("a certificate has a key that is not on an elliptic curve")
    return key


def chain_fault(certificate: x509.Certificate, roots: Sequence[x509.Certificate], at: int) -> ChainFault | None:
    """What is wrong with an end certificate held against `roots` at `at` (Unix seconds), or None.

    Signature by a root of that very name, both in force at `at`, key usage digitalSignature on a certificate that is
    no authority, a modern hash, and no critical extension that we do not understand (RFC 5280 clause 4.2).
    """
    try:
        if not isinstance(certificate.signature_hash_algorithm, _HASHES):
            return ChainFault.ALGORITHM
        issuer = next((root for root in roots if _issued(certificate, root)), None)
        if issuer is None:
            return ChainFault.UNKNOWN_ISSUER
        if not (_in_force(certificate, at) and _in_force(issuer, at)):
            return ChainFault.NOT_IN_FORCE
        if any(item.critical and not isinstance(item.value, _KNOWN_CRITICAL) for item in certificate.extensions):
            return ChainFault.CRITICAL_EXTENSION
        if not _signs_data_only(certificate):
            return ChainFault.KEY_USAGE
    except _UNREADABLE:
        return ChainFault.ALGORITHM
    return None


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    if certificate.issuer != root.subject:
        return False
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _in_force(certificate: x509.Certificate, at: int) -> bool:
    return certificate.not_valid_before_utc.timestamp() <= at <= certificate.not_valid_after_utc.timestamp()


def _signs_data_only(certificate: x509.Certificate) -> bool:
    usage = _extension(certificate, x509.KeyUsage)
    constraints = _extension(certificate, x509.BasicConstraints)
    is_authority = constraints is not None and constraints.ca
    return usage is not None and usage.digital_signature and not usage.key_cert_sign and not is_authority


def _is_root(certificate: x509.Certificate) -> bool:
    usage = _extension(certificate, x509.KeyUsage)
    constraints = _extension(certificate, x509.BasicConstraints)
    signs_certificates = usage is not None and usage.key_cert_sign and constraints is not None and constraints.ca
    return signs_certificates and _issued(certificate, certificate)


def _is_for_card_keys(certificate: x509.Certificate) -> bool:
    policies = _extension(certificate, x509.CertificatePolicies)
    return policies is not None and any(item.policy_identifier == CARD_KEY_POLICY for item in policies)


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
