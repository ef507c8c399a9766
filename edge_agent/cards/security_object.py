"""EF.SOD taken apart (ICAO 9303-10 clause 4.6.2): tag 77, CMS SignedData, LDSSecurityObject. Judges nothing.

One signer, one certificate, signed attributes, SHA-2 and ECDSA: the form that ICAO 9303-12 asks for and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from asn1crypto import cms
from cryptography import x509

from edge_agent.cards import lds, tlv
from edge_agent.cards.errors import CardDataError
from edge_agent.cards.trust import load_certificate

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 16
MAX_OBJECTS: Final = 2000

LDS_SECURITY_OBJECT: Final = "2.23.136.1.1.1"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_DIGESTS: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_DIGEST_OIDS: Final = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_ECDSA: Final = {
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
_ASN1_FAULTS: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What asn1crypto lets out for bytes that are not the structure asked for."""


@dataclass(frozen=True, slots=True)
class SecurityObject:
    """A parsed, *not yet verified* security object."""

    document_signer: x509.Certificate = field(repr=False)
    digest_algorithm: str
    signature_hash: str
    content: bytes = field(repr=False)
    """The LDSSecurityObject as signed."""
    message_digest: bytes = field(repr=False)
    signed_attributes: bytes = field(repr=False)
    """As the signature covers them: with the tag of a SET."""
    signature: bytes = field(repr=False)
    group_algorithm: str
    group_hashes: Mapping[int, bytes] = field(repr=False)


def parse(data: bytes) -> SecurityObject:
    """Take EF.SOD as read apart.

    Raises:
        CardDataError: not of this form, or beyond a limit.
    """
    if len(data) > MAX_BYTES:
        raise CardDataError("the security object is too long")
    content_info = tlv.only(data, lds.TAG_SOD)
    # asn1crypto recurses and allocates as the bytes tell it: let nothing deep or crowded near it
    tlv.check_bounds(content_info, max_depth=MAX_DEPTH, max_count=MAX_OBJECTS)
    try:
        return _parse_cms(content_info)
    except _ASN1_FAULTS as exc:
        raise CardDataError("the security object is not CMS SignedData") from exc


def _parse_cms(data: bytes) -> SecurityObject:
    info = cms.ContentInfo.load(data, strict=True)
    if info["content_type"].native != "signed_data":
        raise CardDataError("the security object is not CMS SignedData")
    signed = info["content"]
    encapsulated = signed["encap_content_info"]
    signers, certificates = signed["signer_infos"], signed["certificates"]
    if encapsulated["content_type"].dotted != LDS_SECURITY_OBJECT or len(signers) != 1 or len(certificates) != 1:
        raise CardDataError("the security object has another content, signer or certificate than it must")
    signer, certificate = signers[0], certificates[0].chosen
    if not _names(signer["sid"], certificate):
        raise CardDataError("the security object's signer is not the certificate in it")
    content = bytes(encapsulated["content"])
    group_algorithm, group_hashes = _parse_lds(content)
    return SecurityObject(
        document_signer=load_certificate(certificate.dump()),
        digest_algorithm=_DIGESTS[signer["digest_algorithm"]["algorithm"].dotted],
        signature_hash=_ECDSA[signer["signature_algorithm"]["algorithm"].dotted],
        content=content,
        message_digest=_message_digest(signer["signed_attrs"]),
        signed_attributes=b"\x31" + signer["signed_attrs"].dump()[1:],
        signature=bytes(signer["signature"]),
        group_algorithm=group_algorithm,
        group_hashes=MappingProxyType(group_hashes),
    )


def _names(signer_id: Any, certificate: Any) -> bool:
    """Whether a SignerIdentifier means `certificate` (RFC 5652 clause 5.3)."""
    if signer_id.name == "issuer_and_serial_number":
        chosen = signer_id.chosen
        same_serial = chosen["serial_number"].native == certificate.serial_number
        return bool(same_serial and chosen["issuer"].dump() == certificate.issuer.dump())
    return bool(certificate.key_identifier is not None and signer_id.chosen.native == certificate.key_identifier)


def _message_digest(attributes: Any) -> bytes:
    """The digest among the signed attributes; the content type beside it must be that of an LDSSecurityObject."""
    values: dict[str, Any] = {}
    for attribute in attributes:
        kind = attribute["type"].dotted
        if kind in values or len(attribute["values"]) != 1:
            raise CardDataError("a signed attribute is there twice")
        values[kind] = attribute["values"][0]
    if values[_CONTENT_TYPE].dotted != LDS_SECURITY_OBJECT:
        raise CardDataError("the signed attributes name another content")
    return bytes(values[_MESSAGE_DIGEST])


def _parse_lds(content: bytes) -> tuple[str, dict[int, bytes]]:
    """(hash algorithm, group number to hash) of an LDSSecurityObject (ICAO 9303-10 clause 4.6.2.3)."""
    fields = tlv.parse(tlv.only(content, 0x30))
    if [item.tag for item in fields[:3]] != [0x02, 0x30, 0x30] or len(fields) > 4:
        raise CardDataError("the LDS security object has another structure")
    algorithm = _DIGEST_OIDS[tlv.need(tlv.parse(fields[1].value), 0x06)]
    size = hashlib.new(algorithm).digest_size
    found: dict[int, bytes] = {}
    for entry in tlv.parse(fields[2].value, max_count=16):
        number, value = tlv.parse(entry.value, max_count=2)
        group = int.from_bytes(number.value, signed=True)
        if (entry.tag, number.tag, value.tag) != (0x30, 0x02, 0x04) or len(value.value) != size:
            raise CardDataError("the LDS security object has a malformed hash")
        if not 1 <= group <= 16 or group in found:
            raise CardDataError("the LDS security object has an impossible or repeated group")
        found[group] = value.value
    return algorithm, found
