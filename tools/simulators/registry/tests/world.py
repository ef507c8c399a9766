"""A terminal, the exchange and the registry in one process, on one clock, with repeatable chance and no network."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edge_agent.cards import verdict
from edge_agent.cards.trust import TrustList
from tools.simulators import issuer
from tools.simulators.nix import app as nix_app
from tools.simulators.nix import matrix as matrices
from tools.simulators.nix.exchange import Exchange
from tools.simulators.nix.registry_link import RegistryLink
from tools.simulators.nix.store import Store as NixStore
from tools.simulators.party import tls
from tools.simulators.party.envelope import size_bucket
from tools.simulators.registry import app as registry_app
from tools.simulators.registry.cards import SimulatedCardOffice
from tools.simulators.registry.office import Office, Policy, PseudonymKeys
from tools.simulators.registry.operator import Misbehaviour
from tools.simulators.registry.store import Store as RegistryStore
from wire import cose, fields
from wire.inquiry import (
    ANSWER_TYPE,
    CARD_ASSERTION,
    REQUEST_TYPE,
    TRACE_TYPE,
    Answer,
    AssertRequest,
    ChallengeRequest,
    Envelope,
    TraceHeader,
    card_challenge,
    verdict_digest_input,
)

START_MS = int(datetime(2026, 11, 21, 8, 30, tzinfo=UTC).timestamp()) * 1000
AUDIENCE = "10380284790/0417"
BASIS = "003/a5"
MATRIX = Path(matrices.__file__).with_name("matrix.json").read_bytes()


def counted(label: str) -> Callable[[int], bytes]:
    """Chance that is the same in every run and never repeats."""
    numbers = itertools.count()

    def chance(size: int) -> bytes:
        return hashlib.shake_128(f"{label}/{next(numbers)}".encode()).digest(size)

    return chance


@dataclass
class Clock:
    ms: int = START_MS

    def __call__(self) -> int:
        return self.ms


@dataclass(frozen=True)
class Terminal:
    """A terminal's key and certificate, and what it makes with them."""

    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    chance: Callable[[int], bytes]

    @classmethod
    def make(cls, ca: tls.Authority, name: str, *, now_ms: int = START_MS) -> Terminal:
        pem = tls.client(ca, ca.directory / f"{name}.pem", name, now_ms=now_ms).read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key, x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER), counted(name))

    @property
    def thumbprint(self) -> bytes:
        return cose.thumbprint(self.key.public_key())

    def header(self, body: bytes, at_ms: int, **other: object) -> TraceHeader:
        values: dict[str, object] = {
            "trace_id": self.chance(16),
            "from_agency": "demo",
            "to_agency": "nocr",
            "service": CARD_ASSERTION,
            "legal_basis": BASIS,
            "office_class": "notary",
            "at_ms": at_ms,
            "size_bucket": size_bucket(body),
            "body_hash": hashlib.sha256(body).digest(),
        }
        return TraceHeader(**{**values, **other})  # type: ignore[arg-type]  # tests pass every field by name

    def envelope(self, body: bytes, at_ms: int, **other: object) -> bytes:
        """`body` (signed already) under a fresh header; `other` replaces header fields."""
        header = cose.sign(fields.encode(self.header(body, at_ms, **other)), self.key, TRACE_TYPE)
        return fields.encode(Envelope(header, body, self.certificate))

    def sealed(self, request: ChallengeRequest | AssertRequest) -> bytes:
        return cose.sign(fields.encode(request), self.key, REQUEST_TYPE)

    def challenge_request(self, card: issuer.CardImage, **other: object) -> ChallengeRequest:
        values: dict[str, object] = {
            "req_id": self.chance(16),
            "aud": AUDIENCE,
            "svc": "notary.deed",
            "min_loa": 2,
            "txh": self.chance(32),
            "legal_basis": BASIS,
            "card_certificate": card.card_certificate,
        }
        return ChallengeRequest(**{**values, **other})  # type: ignore[arg-type]  # tests pass every field by name


def verdict_status(session: int = 0) -> bytes:
    """What a card by contact says of a session."""
    return verdict.Status(
        interface=verdict.Interface.CONTACT,
        session=verdict.Session(session),
        reference=verdict.Reference(0),
        pin1_tries=3,
        pin2_tries=3,
        puk_tries=10,
        finger_96_tries=None,
        finger_97_tries=None,
        verdict_counter=1,
        journal_state=verdict.JournalState.IDLE,
        journal_containers=0,
        journal_counter=0,
        journal_transaction=bytes(16),
    ).to_bytes()


def group_hashes(card: issuer.CardImage) -> dict[int, bytes]:
    return {number: hashlib.sha256(data).digest() for number, data in card.groups.items()}


def card_signature(card: issuer.CardImage, challenge: bytes, status: bytes) -> bytes:
    signed = card.card_key.sign(verdict_digest_input(challenge, status), ec.ECDSA(SHA256()))
    return cose.raw_signature(*utils.decode_dss_signature(signed))


def answer_to(
    request: ChallengeRequest,
    answer: Answer,
    terminal: Terminal,
    card: issuer.CardImage,
    *,
    status: bytes | None = None,
    **other: object,
) -> AssertRequest:
    """The honest answer of `card` in `terminal` to a challenge; `other` replaces fields."""
    assert answer.nonce is not None
    assert answer.policy is not None
    status = status if status is not None else verdict_status()
    challenge = card_challenge(
        nonce=answer.nonce,
        terminal=terminal.thumbprint,
        audience=request.aud,
        txh=request.txh,
        policy=answer.policy,
    )
    values: dict[str, object] = {
        "req_id": request.req_id,
        "nonce": answer.nonce,
        "security_object": card.security_object,
        "group_hashes": group_hashes(card),
        "verdict_status": status,
        "verdict_signature": card_signature(card, challenge, status),
    }
    return AssertRequest(**{**values, **other})  # type: ignore[arg-type]  # tests pass every field by name


@dataclass
class World:
    """All parties. `directory` holds their databases."""

    directory: Path
    terminal_ca: tls.Authority
    clock: Clock = field(default_factory=Clock)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        self.terminal = Terminal.make(self.terminal_ca, "t-0001")
        self.other_terminal = Terminal.make(self.terminal_ca, "t-0002")
        self.registry_key = ec.generate_private_key(ec.SECP256R1())
        self.nix_key = ec.generate_private_key(ec.SECP256R1())
        authorities = x509.load_pem_x509_certificates(self.terminal_ca.certificate.read_bytes())
        self.registry_store = RegistryStore(self.directory / "registry.db")
        self.nix_store = NixStore(self.directory / "nix.db")
        self.office = Office(
            store=self.registry_store,
            cards=SimulatedCardOffice(TrustList.from_pem(issuer.trust_list_pem())),
            key=self.registry_key,
            pseudonyms=PseudonymKeys(bytes(32), bytes(range(32))),
            authorities=authorities,
            now_ms=self.clock,
            chance=counted("registry"),
            policy=self.policy,
        )
        self.misbehaviour = Misbehaviour()
        self.registry_app = registry_app.exchange(self.office, self.misbehaviour, delay_s=0)
        self.registry_http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.registry_app), base_url="https://registry"
        )
        self.link = RegistryLink(self.registry_http)
        self.exchange = Exchange(
            self.nix_store,
            matrices.load(MATRIX),
            authorities,
            self.nix_key,
            self.link.inquire,
            now_ms=self.clock,
            chance=counted("nix"),
        )
        self.nix_app = nix_app.terminals(self.exchange, self.link.time, delay_s=0)

    async def close(self) -> None:
        await self.registry_http.aclose()
        self.registry_store.close()
        self.nix_store.close()

    def ask(self, request: ChallengeRequest | AssertRequest, terminal: Terminal | None = None) -> Answer:
        """One request straight to the registry, its answer verified."""
        terminal = terminal or self.terminal
        return self.read(self.office.answer(terminal.envelope(terminal.sealed(request), self.clock())))

    def read(self, answer: bytes) -> Answer:
        """An answer of the registry."""
        return fields.decode(cose.open_signed(answer, self.registry_key.public_key(), ANSWER_TYPE), Answer)

    def read_nix(self, answer: bytes) -> Answer:
        """An answer of the exchange itself."""
        return fields.decode(cose.open_signed(answer, self.nix_key.public_key(), ANSWER_TYPE), Answer)
