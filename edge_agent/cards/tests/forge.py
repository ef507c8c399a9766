"""An issuer that can be told to do it wrong: certificates and security objects with one thing amiss, yet signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge_agent.cards import tlv
from edge_agent.cards.security_object import LDS_SECURITY_OBJECT
from edge_agent.cards.trust import TrustList
from tools.simulators import issuer

GROUPS = issuer.personalise(1).groups
ROOT_KEY = ec.derive_private_key(2**200 + 1, ec.SECP256R1())
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
SHA256_OID = bytes.fromhex("0609608648016503040201")


def when(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CertificatePlan:
    """A certificate; as it stands, a good one for a document signer or a card."""

    subject: Sequence[tuple[x509.ObjectIdentifier, str]] = (
        (NameOID.SERIAL_NUMBER, "S00000001"),
        (NameOID.COMMON_NAME, "leaf"),
    )
    issuer: str = "root"
    key: ec.EllipticCurvePrivateKey = field(default=ec.derive_private_key(2**200 + 2, ec.SECP256R1()))
    years: tuple[int, int] = (2025, 2036)
    signs_data: bool = True
    authority: bool = False
    critical_extra: bool = False
    with_usage: bool = True
    algorithm: hashes.SHA224 | hashes.SHA256 = field(default_factory=hashes.SHA256)

    def made(self) -> x509.Certificate:
        """Signed by the root key."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in self.subject]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.issuer)]))
            .public_key(self.key.public_key())
            .serial_number(4711)
            .not_valid_before(when(self.years[0]))
            .not_valid_after(when(self.years[1]))
        )
        if self.authority:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        if self.with_usage:
            flags = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
            )
            usage = x509.KeyUsage(
                digital_signature=self.signs_data,
                key_cert_sign=self.authority,
                encipher_only=False,
                decipher_only=False,
                **flags,
            )
            builder = builder.add_extension(usage, critical=True)
        if self.critical_extra:
            oid = x509.ObjectIdentifier("1.3.6.1.4.1.32473.99")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)
        return builder.sign(ROOT_KEY, self.algorithm)

    def der(self) -> bytes:
        return self.made().public_bytes(Encoding.DER)


GOOD = CertificatePlan()
ROOT_PLAN = replace(
    GOOD,
    subject=((NameOID.COMMON_NAME, "root"),),
    key=ROOT_KEY,
    years=(2024, 2044),
    authority=True,
    signs_data=False,
)


def trust(root: CertificatePlan = ROOT_PLAN) -> TrustList:
    """A list with this root for both purposes."""
    return TrustList((root.made(),), (root.made(),))


def lds_object(entries: Sequence[tuple[int, bytes]], algorithm: bytes = SHA256_OID) -> bytes:
    """An LDSSecurityObject with these hashes, in this order."""
    listed = b"".join(
        tlv.encode(0x30, tlv.encode(0x02, bytes((number,))) + tlv.encode(0x04, value)) for number, value in entries
    )
    return tlv.encode(0x30, b"\x02\x01\x00" + tlv.encode(0x30, algorithm) + tlv.encode(0x30, listed))


def hashed(groups: Mapping[int, bytes], name: str = "sha256") -> list[tuple[int, bytes]]:
    return [(number, hashlib.new(name, data).digest()) for number, data in groups.items()]


@dataclass(frozen=True)
class SodPlan:
    """A security object; as it stands, a good one over `GROUPS`."""

    signer: CertificatePlan = GOOD
    named: CertificatePlan = GOOD
    """Whom the signer information names."""
    content: bytes = field(default_factory=lambda: lds_object(hashed(GROUPS)))
    content_type: str = LDS_SECURITY_OBJECT
    attribute_type: str = LDS_SECURITY_OBJECT
    digest: str = "sha256"
    signature_hash: str = "sha256"
    digests_named: int = 1
    by_key_identifier: bool = False

    def made(self) -> bytes:
        """EF.SOD."""
        digest = hashlib.new(self.digest, self.content).digest()
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": [self.attribute_type]},
                *[{"type": "message_digest", "values": [digest]}] * self.digests_named,
            ]
        )
        named = cms.Certificate.load(self.named.der())
        signer_id = {"issuer_and_serial_number": {"issuer": named.issuer, "serial_number": named.serial_number}}
        signer: dict[str, Any] = {
            "version": "v1",
            "sid": {"subject_key_identifier": b"other"} if self.by_key_identifier else signer_id,
            "digest_algorithm": {"algorithm": self.digest},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": f"{self.signature_hash}_ecdsa"},
            "signature": self.signer.key.sign(attributes.dump(), ec.ECDSA(_HASHES[self.signature_hash])),
        }
        signed: dict[str, Any] = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": self.digest}],
            "encap_content_info": {"content_type": self.content_type, "content": self.content},
            "certificates": [cms.Certificate.load(self.signer.der())],
            "signer_infos": [signer],
        }
        info = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})
        return tlv.encode(0x77, info.dump())
