"""The verdict: what the card itself says of this session, signed over a challenge by its key 03.

It proves that the chip is the one that the certificate was issued for, now, for this challenge. Command
``00 88 00 03 20 <challenge> 00``, answer ``DF20 <status> DF21 <r||s>``; the signature is ECDSA on P-256 with SHA-256
over `wire.inquiry.verdict_digest_input`. The card fills the status; the host cannot.

Status, 35 bytes, version 1::

    0      version, 01
    1      interface: 01 contact, 02 contactless
    2      session: bit 0 PIN1 verified, 1 PIN2, 2 finger 96 matched, 3 finger 97, 4 PACE
    3      reference data: bit 0 PIN1 must change, 1 PIN1 is the default, 2 PIN2 must change, 3 PIN2 is the default
    4-8    tries left: PIN1, PIN2, PUK, finger 96, finger 97; FF where the card has no such thing
    9-12   verdict counter, big endian; this verdict included
    13     reset journal state: 00 idle, 01 begun, 0F done
    14     reset journal, bitmap of containers
    15-18  reset journal counter, big endian
    19-34  reset journal, last transaction id
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from edge_agent.cards import tlv
from edge_agent.cards.errors import CardDataError, CardNotGenuineError
from edge_agent.cards.trust import TrustList, chain_fault, ec_public_key, load_certificate
from wire.inquiry import verdict_digest_input

CHALLENGE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
TAG_STATUS: Final = 0xDF20
TAG_SIGNATURE: Final = 0xDF21

_LAYOUT: Final = struct.Struct(">BBBBBBBBBIBBI16s")
STATUS_BYTES: Final = _LAYOUT.size
STATUS_VERSION: Final = 1
_ABSENT: Final = 0xFF
_MAX_TRIES: Final = 0x0F


class Interface(IntEnum):
    """How the card is being talked to, as the card sees it."""

    CONTACT = 1
    CONTACTLESS = 2


class Session(IntFlag):
    """What was proved to the card since it was powered."""

    PIN1 = 1 << 0
    PIN2 = 1 << 1
    FINGER_96 = 1 << 2
    FINGER_97 = 1 << 3
    PACE = 1 << 4


class Reference(IntFlag):
    """What the card knows of its own PINs."""

    PIN1_MUST_CHANGE = 1 << 0
    PIN1_DEFAULT = 1 << 1
    PIN2_MUST_CHANGE = 1 << 2
    PIN2_DEFAULT = 1 << 3


class JournalState(IntEnum):
    """Where the last PIN reset stands."""

    IDLE = 0x00
    BEGUN = 0x01
    DONE = 0x0F


@dataclass(frozen=True, slots=True)
class Status:
    """The signed status, parsed. Tries are None where the card has no such reference data."""

    interface: Interface
    session: Session
    reference: Reference
    pin1_tries: int | None
    pin2_tries: int | None
    puk_tries: int | None
    finger_96_tries: int | None
    finger_97_tries: int | None
    verdict_counter: int
    journal_state: JournalState
    journal_containers: int
    journal_counter: int
    journal_transaction: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Status:
        """Read a status.

        Raises:
            CardDataError: another size or version, a reserved bit, a value outside its list.
        """
        if len(data) != STATUS_BYTES:
            raise CardDataError("a verdict's status has another size")
        version, interface, session, reference, *rest = _LAYOUT.unpack(data)
        *tries, counter, state, containers, journal_counter, transaction = rest
        if version != STATUS_VERSION:
            raise CardDataError("a verdict's status has another version")
        if session >> len(Session) or reference >> len(Reference):
            raise CardDataError("a verdict's status has a reserved bit set")
        if any(left > _MAX_TRIES and left != _ABSENT for left in tries):
            raise CardDataError("a verdict's status has an impossible number of tries")
        try:
            known = Interface(interface), JournalState(state)
        except ValueError as exc:
            raise CardDataError("a verdict's status has an unknown value") from exc
        pin1, pin2, puk, finger_96, finger_97 = (None if left == _ABSENT else left for left in tries)
        return cls(
            interface=known[0],
            session=Session(session),
            reference=Reference(reference),
            pin1_tries=pin1,
            pin2_tries=pin2,
            puk_tries=puk,
            finger_96_tries=finger_96,
            finger_97_tries=finger_97,
            verdict_counter=counter,
            journal_state=known[1],
            journal_containers=containers,
            journal_counter=journal_counter,
            journal_transaction=transaction,
        )

    def to_bytes(self) -> bytes:
        """The inverse of `parse`; what a card does."""
        tries = (self.pin1_tries, self.pin2_tries, self.puk_tries, self.finger_96_tries, self.finger_97_tries)
        return _LAYOUT.pack(
            STATUS_VERSION,
            self.interface,
            self.session,
            self.reference,
            *(_ABSENT if left is None else left for left in tries),
            self.verdict_counter,
            self.journal_state,
            self.journal_containers,
            self.journal_counter,
            self.journal_transaction,
        )


@dataclass(frozen=True, slots=True)
class CardVerdict:
    """One answer to the verdict command, *not yet verified*. `signature` is r and s, 32 bytes each."""

    status: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> CardVerdict:
        """Take the answer apart.

        Raises:
            CardDataError: not exactly a status and a signature of their sizes.
        """
        match tlv.parse(data, max_count=2):
            case [tlv.Tlv(tag=0xDF20, value=status), tlv.Tlv(tag=0xDF21, value=signature)]:
                pass
            case _:
                raise CardDataError("a verdict is not a status and a signature")
        if len(status) != STATUS_BYTES or len(signature) != SIGNATURE_BYTES:
            raise CardDataError("a verdict's parts have other sizes")
        return cls(status, signature)

    def to_bytes(self) -> bytes:
        """The inverse of `parse`; what a card does."""
        return tlv.encode(TAG_STATUS, self.status) + tlv.encode(TAG_SIGNATURE, self.signature)


def document_number(certificate_der: bytes) -> str:
    """The document that a card certificate (key 03) was issued for: its subject's serialNumber. Not a proof by itself.

    Raises:
        CardDataError: not a certificate with exactly one.
    """
    return _document_number(load_certificate(certificate_der))


def check(
    verdict: CardVerdict,
    challenge: bytes,
    certificate_der: bytes,
    trust: TrustList,
    at: int,
    *,
    expected_document: str,
) -> Status:
    """The status that a genuine chip signed for `challenge`, at `at` (Unix seconds).

    `expected_document` is the document number that passive authentication stands behind (DG1), or that the register
    holds: a chip of another document, however genuine, is a mixed card.

    Raises:
        CardDataError: the certificate or the status cannot be read.
        CardNotGenuineError: the certificate is not from an authority for card keys, is of another document, or the
            signature is not of its key over this challenge and status.
    """
    if len(challenge) != CHALLENGE_BYTES:
        raise ValueError("a challenge has 32 bytes")
    certificate = load_certificate(certificate_der)
    fault = chain_fault(certificate, trust.card_key_authorities, at)
    if fault is not None:
        raise CardNotGenuineError(f"card certificate: {fault}")
    if _document_number(certificate) != expected_document:
        raise CardNotGenuineError("card certificate: of another document")
    key = ec_public_key(certificate)
    if not isinstance(key.curve, ec.SECP256R1) or len(verdict.signature) != SIGNATURE_BYTES:
        raise CardNotGenuineError("verdict: another algorithm")
    r, s = (int.from_bytes(half) for half in (verdict.signature[:32], verdict.signature[32:]))
    try:
        signed = verdict_digest_input(challenge, verdict.status)
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature as exc:
        raise CardNotGenuineError("verdict: signature") from exc
    return Status.parse(verdict.status)


def _document_number(certificate: x509.Certificate) -> str:
    try:
        values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    except (ValueError, TypeError) as exc:
        # TypeError: a text that is a BIT STRING, which is looked at only here
        raise CardDataError("the card certificate's subject cannot be read") from exc
    match values:
        case [str() as number] if number:
            return number
        case _:
            raise CardDataError("the card certificate names no document")
