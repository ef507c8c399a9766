"""A small simulated card issuer: country signer, document signer, authority for card keys.

The same number gives the same bytes, on any machine: keys are derived from labels, signatures are those of RFC 6979,
dates are fixed. The keys are therefore public, and every name says SIMULATED. All numbers share one country signer, so
one trust list fits every simulated card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge_agent.cards import lds, mrz, tlv
from edge_agent.cards.profile import SPINE_0
from edge_agent.cards.security_object import LDS_SECURITY_OBJECT
from edge_agent.cards.trust import CARD_KEY_POLICY
from tools.simulators.citizens import MAX_SEED, Citizen, derive, document_number, seed_of

__all__ = [
    "EXPIRY",
    "ISSUE_DATE",
    "MAX_SEED",
    "CardImage",
    "Citizen",
    "Defect",
    "ElementaryFile",
    "personalise",
    "seed_of",
    "trust_list_pem",
]

ISSUE_DATE: Final = date(2025, 3, 21)
EXPIRY: Final = date(2032, 3, 20)
_STATE: Final = "IRN"
_EXPIRED: Final = date(2024, 3, 19)
_ROOT_FROM: Final = datetime(2024, 1, 1, tzinfo=UTC)
_ROOT_UNTIL: Final = datetime(2044, 1, 1, tzinfo=UTC)
_LEAF_FROM: Final = datetime(2025, 1, 1, tzinfo=UTC)
_LEAF_UNTIL: Final = datetime(2036, 1, 1, tzinfo=UTC)
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Defect(StrEnum):
    """Cards that must not pass, for tests and for training."""

    EXPIRED = "expired"
    """Genuine, but its date has passed."""
    TAMPERED_DG1 = "tampered-dg1"
    """DG1 says something else than what was signed."""
    FOREIGN_ISSUER = "foreign-issuer"
    """Everything fits together, signed by authorities of the right names with other keys."""
    CLONED_CHIP = "cloned-chip"
    """All public bytes of the genuine card in a chip that does not have its key."""
    MIXED_CHIP = "mixed-chip"
    """The data of one card with the chip of another genuine one."""


@dataclass(frozen=True, slots=True)
class ElementaryFile:
    """One file of the card. `sfi` is None for a file without a short id."""

    fid: int
    sfi: int | None
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CardImage:
    """What personalisation writes into one chip."""

    seed: int
    atr: bytes
    master: tuple[ElementaryFile, ...]
    lds: tuple[ElementaryFile, ...]
    eid: tuple[ElementaryFile, ...]
    card_key: ec.EllipticCurvePrivateKey = field(repr=False)
    pin1: bytes = field(repr=False)
    """Six ASCII digits. For a person at a simulated pad; no other program has business with it."""
    printed: Mapping[str, str] = field(repr=False)
    """What the plastic says: surname, given_names, father_name, national_number, birth_date, document_number,
    expiry; dates as ISO 8601."""

    @property
    def groups(self) -> dict[int, bytes]:
        """Data group number to its bytes on the card."""
        return {number: _content(self.lds, 0x0100 | sfi) for number, sfi in SPINE_0.group_sfis}

    @property
    def security_object(self) -> bytes:
        """EF.SOD."""
        return _content(self.lds, 0x011D)

    @property
    def card_certificate(self) -> bytes:
        """DER certificate of key 03."""
        return _content(self.eid, int.from_bytes(SPINE_0.card_certificate_fid))


def trust_list_pem(*, foreign: bool = False) -> bytes:
    """The roots of every simulated card: country signer and authority for card keys.

    With `foreign`, those of `Defect.FOREIGN_ISSUER`: the same names, other keys.
    """
    authorities = _authorities(foreign=foreign)
    roots = (authorities.country_signer, authorities.card_key_authority)
    return b"".join(root.public_bytes(Encoding.PEM) for root in roots)


def personalise(seed: int, defect: Defect | None = None) -> CardImage:
    """The card of citizen `seed` (0 to `MAX_SEED`), whole unless a `defect` is asked for."""
    citizen = Citizen.from_seed(seed)
    authorities = _authorities(foreign=defect is Defect.FOREIGN_ISSUER)
    expiry = _EXPIRED if defect is Defect.EXPIRED else EXPIRY
    groups = {1: _data_group_1(citizen, expiry), 11: _data_group_11(citizen)}
    security_object = _security_object(groups, authorities)
    if defect is Defect.TAMPERED_DG1:
        groups[1] = _data_group_1(citizen, EXPIRY + timedelta(days=365))
    chip = (seed + 1) % (MAX_SEED + 1) if defect is Defect.MIXED_CHIP else seed
    key = _card_key(chip)
    certificate = _card_certificate(chip, key, authorities)
    if defect is Defect.CLONED_CHIP:
        key = _key(f"clone/{document_number(seed)}")
    lds_files = [
        ElementaryFile(0x011E, 0x1E, lds.compose_common(groups)),
        ElementaryFile(0x011D, 0x1D, security_object),
    ]
    lds_files += [ElementaryFile(0x0100 | number, number, data) for number, data in groups.items()]
    return CardImage(
        seed=seed,
        atr=SPINE_0.atr_masks[0].value,
        master=(ElementaryFile(0x2F01, 0x01, _atr_info()), ElementaryFile(0x2F00, 0x1E, _directory())),
        lds=tuple(lds_files),
        eid=(ElementaryFile(int.from_bytes(SPINE_0.card_certificate_fid), None, certificate),),
        card_key=key,
        pin1=f"{int.from_bytes(derive(f'pin1/{document_number(seed)}')[:8]) % 10**6:06d}".encode(),
        printed=_printed(citizen, expiry),
    )


@dataclass(frozen=True, slots=True)
class _Authorities:
    country_signer: x509.Certificate
    document_signer: x509.Certificate
    document_signer_key: ec.EllipticCurvePrivateKey
    card_key_authority: x509.Certificate
    card_key_authority_key: ec.EllipticCurvePrivateKey


@cache
def _authorities(*, foreign: bool) -> _Authorities:
    realm = "foreign/" if foreign else ""
    country_key, signer_key, card_keys = (_key(f"{realm}{name}") for name in ("country", "signer", "card-keys"))
    country = _root("SIMULATED country signer", country_key, policy=None)
    return _Authorities(
        country_signer=country,
        document_signer=_leaf([(NameOID.COMMON_NAME, "SIMULATED document signer 1")], signer_key, country, country_key),
        document_signer_key=signer_key,
        card_key_authority=_root("SIMULATED authority for card keys", card_keys, policy=CARD_KEY_POLICY),
        card_key_authority_key=card_keys,
    )


def _name(parts: Sequence[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    base = [(NameOID.COUNTRY_NAME, "IR"), (NameOID.ORGANIZATION_NAME, "SIMULATED civil registry")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in [*base, *parts]])


def _root(name: str, key: ec.EllipticCurvePrivateKey, policy: x509.ObjectIdentifier | None) -> x509.Certificate:
    subject = _name([(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key, key, (_ROOT_FROM, _ROOT_UNTIL))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    if policy is not None:
        builder = builder.add_extension(
            x509.CertificatePolicies([x509.PolicyInformation(policy, None)]), critical=False
        )
    return builder.sign(key, SHA256(), ecdsa_deterministic=True)


def _leaf(
    parts: Sequence[tuple[x509.ObjectIdentifier, str]],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    builder = _builder(_name(parts), issuer.subject, key, issuer_key, (_LEAF_FROM, _LEAF_UNTIL))
    builder = builder.add_extension(_usage(authority=False), critical=True)
    return builder.sign(issuer_key, SHA256(), ecdsa_deterministic=True)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    validity: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    serial = int.from_bytes(hashlib.sha256(subject.public_bytes() + issuer.public_bytes()).digest()[:8]) | 1
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _card_certificate(seed: int, key: ec.EllipticCurvePrivateKey, authorities: _Authorities) -> bytes:
    parts = [(NameOID.SERIAL_NUMBER, document_number(seed)), (NameOID.COMMON_NAME, "SIMULATED card key 03")]
    certificate = _leaf(parts, key, authorities.card_key_authority, authorities.card_key_authority_key)
    return certificate.public_bytes(Encoding.DER)


def _security_object(groups: Mapping[int, bytes], authorities: _Authorities) -> bytes:
    """EF.SOD over `groups` (ICAO 9303-10 clause 4.6.2), SHA-256 throughout."""
    content = _lds_security_object(groups)
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": [LDS_SECURITY_OBJECT]},
            {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
        ]
    )
    key = authorities.document_signer_key
    signature = key.sign(attributes.dump(), ec.ECDSA(SHA256(), deterministic_signing=True))
    certificate = authorities.document_signer
    issuer = cms.Name.load(certificate.issuer.public_bytes())
    signer: dict[str, Any] = {
        "version": "v1",
        "sid": {"issuer_and_serial_number": {"issuer": issuer, "serial_number": certificate.serial_number}},
        "digest_algorithm": {"algorithm": "sha256"},
        "signed_attrs": attributes,
        "signature_algorithm": {"algorithm": "sha256_ecdsa"},
        "signature": signature,
    }
    signed: dict[str, Any] = {
        "version": "v3",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": LDS_SECURITY_OBJECT, "content": content},
        "certificates": [cms.Certificate.load(certificate.public_bytes(Encoding.DER))],
        "signer_infos": [signer],
    }
    info = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})
    return tlv.encode(lds.TAG_SOD, info.dump())


def _lds_security_object(groups: Mapping[int, bytes]) -> bytes:
    algorithm = tlv.encode(0x30, bytes.fromhex("0609608648016503040201"))
    hashes = b"".join(
        tlv.encode(0x30, tlv.encode(0x02, bytes((number,))) + tlv.encode(0x04, hashlib.sha256(data).digest()))
        for number, data in sorted(groups.items())
    )
    return tlv.encode(0x30, tlv.encode(0x02, b"\x00") + algorithm + tlv.encode(0x30, hashes))


def _data_group_1(citizen: Citizen, expiry: date) -> bytes:
    zone = mrz.compose_td1(
        state=_STATE,
        document_number=citizen.document_number,
        birth=citizen.birth_date,
        sex=citizen.sex,
        expiry=expiry,
        surname=citizen.latin_surname,
        given_names=citizen.latin_given_names,
    )
    return lds.compose_data_group_1(zone)


def _data_group_11(citizen: Citizen) -> bytes:
    details = lds.PersonalDetails(
        surname=citizen.surname,
        given_names=citizen.given_names,
        father_name=citizen.father_name,
        national_number=citizen.national_number,
        birth_date=citizen.birth_date,
    )
    return lds.compose_data_group_11(details)


def _atr_info() -> bytes:
    """EF.ATR/INFO: commands and answers of up to 1024 bytes (7F66, ISO/IEC 7816-4 clause 12.7.1)."""
    return tlv.encode(0x7F66, tlv.encode(0x02, (1024).to_bytes(2)) + tlv.encode(0x02, (1024).to_bytes(2)))


def _directory() -> bytes:
    """EF.DIR: the two applications."""
    entries = ((SPINE_0.lds_aid, b"SIMULATED LDS"), (SPINE_0.eid_aid, b"SIMULATED eID"))
    return b"".join(tlv.encode(0x61, tlv.encode(0x4F, aid) + tlv.encode(0x50, label)) for aid, label in entries)


def _printed(citizen: Citizen, expiry: date) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "surname": citizen.surname,
            "given_names": citizen.given_names,
            "father_name": citizen.father_name,
            "national_number": citizen.national_number,
            "birth_date": citizen.birth_date.isoformat(),
            "document_number": citizen.document_number,
            "expiry": expiry.isoformat(),
        }
    )


def _content(files: Sequence[ElementaryFile], fid: int) -> bytes:
    return next(file.content for file in files if file.fid == fid)


def _card_key(seed: int) -> ec.EllipticCurvePrivateKey:
    return _key(f"card/{document_number(seed)}")


def _key(label: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(derive(f"key/{label}")) % (_ORDER - 1) + 1, ec.SECP256R1())
