"""One card visit, top to bottom: identify, challenge, prove, assert. Every step that can take time is one `await`.

The doors are parameters, leaving is an exception, and nothing is shown as done here: the caller commits first.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.cards import lds, passive_auth, profile, verdict
from edge_agent.cards.apdu import Trace, Transmit
from edge_agent.cards.channel import PlainChannel
from edge_agent.cards.errors import CardUnsupportedError
from edge_agent.cards.national import CardRecord, NationalCard
from edge_agent.cards.verdict import CardVerdict
from edge_agent.clock import TrustedClock
from edge_agent.errors import InquiryError
from edge_agent.inquiry import Challenge, Granted
from edge_agent.kiosk.desk import Step, Transaction
from wire import assertion, inquiry
from wire.failures import Failure

SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """What the office asked for; fixed when the visit began."""

    visit: str
    audience: str
    office_class: str
    service: str
    legal_basis: str
    act_reference: str
    min_loa: int


@dataclass(frozen=True, slots=True)
class Asserted:
    """A verified assertion. `transaction` holds the salt, which only the relying party keeps."""

    token: bytes
    loa: int
    tracking_code: str
    transaction: Transaction
    card_ms: int = 0
    """How long the visit waited for the card."""
    registry_ms: int = 0
    """How long it waited for the exchange and the registry."""


class Registry(Protocol):
    """The two questions that a visit asks, as `edge_agent.inquiry.Inquiry` answers them."""

    async def open_inquiry(
        self,
        *,
        audience: str,
        office_class: str,
        service: str,
        legal_basis: str,
        min_loa: int,
        txh: bytes,
        card_certificate: bytes,
    ) -> Challenge: ...

    async def obtain(
        self,
        challenge: Challenge,
        *,
        security_object: bytes,
        group_hashes: dict[int, bytes],
        verdict_status: bytes,
        verdict_signature: bytes,
    ) -> Granted: ...


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whom this terminal believes, and which key it signs with. Read once at the start."""

    card_issuers: passive_auth.TrustList
    registry_keys: dict[bytes, ec.EllipticCurvePublicKey]
    """By key id, as `wire.assertion.verify` wants them."""
    terminal: bytes
    """Thumbprint of the terminal's own key."""


class Stopwatch:
    """Adds up how long one party kept the visit waiting: ``with stopwatch: await …``."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._started_s = 0.0
        self._total_s = 0.0

    def __enter__(self) -> None:
        self._started_s = self._monotonic()

    def __exit__(self, *_: object) -> None:
        self._total_s += self._monotonic() - self._started_s

    @property
    def total_ms(self) -> int:
        return round(self._total_s * 1000)


Show = Callable[..., None]
"""``show(step, progress_pct=, holder_name=, tracking_code=)``: what is known so far, for the screen."""


async def serve_card(
    asked: Asked,
    transmit: Transmit,
    atr: bytes,
    *,
    registry: Registry,
    trusted: Trusted,
    clock: TrustedClock,
    chance: Callable[[int], bytes],
    monotonic: Callable[[], float],
    show: Show,
    trace: Trace | None = None,
) -> Asserted:
    """Turn the card in the reader into an assertion for `asked`.

    Raises:
        CardError: the card; its `failure` says which sentence the person is told.
        InquiryError: the exchange or the registry, or an answer that is not what was asked for.
        ClockNotTrustedError: the terminal lost its trusted time meanwhile.
    """
    card_time, registry_time = Stopwatch(monotonic), Stopwatch(monotonic)

    async def timed_transmit(command: bytes) -> bytes:
        with card_time:
            return await transmit(command)

    known = await _identify(atr, timed_transmit, trusted, clock, show=show, trace=trace)
    holder = known.holder

    show(Step.ASKING_REGISTRY, holder_name=f"{holder.given_names} {holder.surname}")
    transaction = Transaction(asked.service, asked.audience, asked.act_reference, chance(SALT_BYTES), known.at_ms)
    txh = inquiry.transaction_hash(**dataclasses.asdict(transaction))
    with registry_time:
        challenge = await registry.open_inquiry(
            audience=asked.audience,
            office_class=asked.office_class,
            service=asked.service,
            legal_basis=asked.legal_basis,
            min_loa=asked.min_loa,
            txh=txh,
            card_certificate=known.record.card_certificate,
        )

    show(Step.PROVING, tracking_code=challenge.tracking_code)
    proof = await _prove(known, asked, challenge, txh, trusted)

    show(Step.ASKING_REGISTRY)
    with registry_time:
        granted = await registry.obtain(
            challenge,
            security_object=known.record.security_object,
            group_hashes=dict(known.authentic.group_hashes),
            verdict_status=proof.status,
            verdict_signature=proof.signature,
        )
    claims = _checked(granted, asked, challenge, txh=txh, trusted=trusted, now_ms=clock.now_ms())
    return Asserted(granted.token, claims.loa, claims.trk, transaction, card_time.total_ms, registry_time.total_ms)


@dataclass(frozen=True, slots=True)
class _Known:
    """A card whose data is authentic and in force; whether the chip is genuine is not known yet."""

    card: NationalCard
    record: CardRecord
    authentic: passive_auth.PassiveAuthentication
    holder: lds.Holder
    at_ms: int


async def _identify(
    atr: bytes, transmit: Transmit, trusted: Trusted, clock: TrustedClock, *, show: Show, trace: Trace | None
) -> _Known:
    """Recognise the card, read it, and hold what was read against the trust list, at the trusted time."""
    found = profile.match(atr)
    if found is None:
        raise CardUnsupportedError("no profile matches the answer to reset")
    show(Step.READING, progress_pct=0)
    card = await NationalCard.open(PlainChannel(transmit, trace), found)
    record = await card.read(lambda files, of: show(Step.READING, progress_pct=100 * files // of))
    at_ms = clock.now_ms()
    authentic = passive_auth.authenticate(record.security_object, record.groups, trusted.card_issuers, at_ms // 1000)
    holder = lds.holder(record.groups)
    lds.check_expiry(holder.expiry, at_ms // 1000)
    return _Known(card, record, authentic, holder, at_ms)


async def _prove(known: _Known, asked: Asked, challenge: Challenge, txh: bytes, trusted: Trusted) -> CardVerdict:
    """Have the chip sign this very transaction, and check that the key is the one that was issued for this document."""
    if challenge.card_status is not inquiry.CardStatus.VALID:
        raise InquiryError(Failure.CARD_NOT_VALID_ANY_MORE, challenge.card_status.name, challenge.tracking_code)
    digest = inquiry.card_challenge(
        nonce=challenge.nonce,
        terminal=trusted.terminal,
        audience=asked.audience,
        txh=txh,
        policy=challenge.policy,
    )
    proof = await known.card.verdict(digest)
    verdict.check(
        proof,
        digest,
        known.record.card_certificate,
        trusted.card_issuers,
        known.at_ms // 1000,
        expected_document=known.holder.document_number,
    )
    return proof


def _checked(
    granted: Granted, asked: Asked, challenge: Challenge, *, txh: bytes, trusted: Trusted, now_ms: int
) -> assertion.Claims:
    """The claims, if the token is genuine, for this audience, now, and answers exactly this inquiry."""
    judged = assertion.verify(granted.token, trusted.registry_keys, audience=asked.audience, at=now_ms // 1000)
    claims = judged.claims
    if judged.outcome is not assertion.Outcome.GENUINE_NOW or claims is None:
        raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, judged.reason, challenge.tracking_code)
    matches = (
        claims.nonce == challenge.nonce
        and claims.txh == txh
        and claims.trk == challenge.tracking_code
        and claims.trm == trusted.terminal
        and claims.pol == challenge.policy
        and claims.att == hashlib.sha256(granted.evidence).digest()
    )
    if not matches:
        raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, "answers another inquiry", challenge.tracking_code)
    if claims.loa < asked.min_loa:
        raise InquiryError(Failure.TOO_LITTLE_ASSURANCE, "below the level asked for", challenge.tracking_code)
    return claims
