"""The registry's desk: one signed request in, one signed answer with a tracking code out, stored before it is sent."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.cards.errors import CardError
from tools.simulators.party.envelope import EnvelopeRefusedError, Opened, open_envelope
from tools.simulators.registry.evidence import CardOffice, Citizen, Proofs
from tools.simulators.registry.store import CodeRecord, CodeState, Inquiry, Store
from wire import assertion, cbor, cose, fields, loa, tracking_code
from wire.failures import Failure
from wire.inquiry import (
    ANSWER_TYPE,
    CARD_ASSERTION,
    CHALLENGE_LIFETIME_S,
    IDENTITY_SERVICE,
    REQUEST_TYPE,
    TIME_TYPE,
    Answer,
    AssertRequest,
    CardStatus,
    ChallengeRequest,
    TimeAnswer,
    TimeRequest,
    card_challenge,
)

MAX_REQUEST_BYTES = 80 * 1024
_PSEUDONYM_BYTES = 16
_log = structlog.get_logger()


class _RefusedError(Exception):
    """Ends the handling of one request: the terminal is answered `failure`."""

    def __init__(self, failure: Failure, reason: str, card_status: CardStatus | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.card_status = card_status


@dataclass(frozen=True, slots=True)
class Policy:
    """Parameters that the law leaves to the registry. `retain_s`: the legal period of decree 003 article 5 is open."""

    issuer: str = "nocr.simulated"
    levels: str = loa.SPINE_POLICY
    challenge_lifetime_s: int = CHALLENGE_LIFETIME_S
    retain_s: int = 10 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True, repr=False)
class PseudonymKeys:
    """Two secrets of 32 bytes: without them nobody can tell which person or card a pseudonym stands for."""

    person: bytes
    card: bytes


@dataclass(frozen=True, slots=True)
class Office:
    """`now_ms` and `chance` (n random bytes) are the registry's own; `authorities` issue terminal certificates."""

    store: Store
    cards: CardOffice
    key: ec.EllipticCurvePrivateKey
    pseudonyms: PseudonymKeys
    authorities: Sequence[x509.Certificate]
    now_ms: Callable[[], int]
    chance: Callable[[int], bytes]
    policy: Policy = Policy()

    def answer(self, data: bytes) -> bytes:
        """The answer to an envelope, whatever it holds. The same request again gets the same bytes again."""
        now_ms = self.now_ms()
        try:
            opened = open_envelope(data, self.authorities, now_ms=now_ms)
        except EnvelopeRefusedError as exc:
            return self._refuse_unread(exc.trace_id or hashlib.sha256(data).digest()[:16], exc.reason, now_ms)
        try:
            body = cose.open_signed(opened.body, opened.key, REQUEST_TYPE)
            request = _parse(body)
        except (cose.SignatureRefusedError, cbor.CborRefusedError, fields.MessageRefusedError) as exc:
            return self._refuse_unread(opened.header.trace_id, str(exc), now_ms)
        request_hash = hashlib.sha256(body).digest()
        with self.store.transaction():
            given = self.store.answer(opened.thumbprint, request_hash)
            if given is not None:
                return given
            code, answer = self._decide(opened, request, body, now_ms)
            signed = cose.sign(fields.encode(answer), self.key, ANSWER_TYPE)
            self.store.keep_answer(opened.thumbprint, request_hash, code, signed)
        return signed

    def time(self, data: bytes) -> bytes:
        """The registry's signed time, for the asker's nonce.

        Raises:
            fields.MessageRefusedError: not a time request.
        """
        request = fields.decode(data, TimeRequest)
        return cose.sign(fields.encode(TimeAnswer(request.nonce, self.now_ms())), self.key, TIME_TYPE)

    def _decide(
        self, opened: Opened, request: ChallengeRequest | AssertRequest, body: bytes, now_ms: int
    ) -> tuple[str, Answer]:
        """The tracking code and the answer, with everything it changes written."""
        inquiry = self.store.inquiry(opened.thumbprint, request.req_id)
        if isinstance(request, ChallengeRequest) or inquiry is None:
            record = self._new_code(opened, request, now_ms)
        else:
            known = self.store.code(inquiry.tracking_code)
            if known is None:
                raise AssertionError("an inquiry without its code")
            record = known
        try:
            if isinstance(request, ChallengeRequest):
                answer = self._challenge(opened, request, inquiry, record, now_ms)
            else:
                att = hashlib.sha256(body).digest()
                answer = self._assert(opened, request, inquiry, record, evidence_hash=att, now_ms=now_ms)
        except _RefusedError as exc:
            _log.info("inquiry_refused", failure=exc.failure.name, reason=exc.reason)
            if record.state is not CodeState.ASSERTED:
                self.store.keep_code(replace(record, state=CodeState.REFUSED, until_ms=now_ms))
            answer = Answer(request.req_id, record.tracking_code, exc.failure, now_ms, card_status=exc.card_status)
        return record.tracking_code, answer

    def _challenge(
        self,
        opened: Opened,
        request: ChallengeRequest,
        earlier: Inquiry | None,
        record: CodeRecord,
        now_ms: int,
    ) -> Answer:
        header = opened.header
        if header.service != CARD_ASSERTION or header.legal_basis != request.legal_basis:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "the header is of another request")
        if earlier is not None:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "this request id is another inquiry's")
        if self.store.act_is_asserted(request.aud, request.txh):
            raise _RefusedError(Failure.REGISTRY_REFUSED, "this act has its assertion")
        self._valid_card(request.card_certificate, now_ms)
        inquiry = Inquiry(
            terminal=opened.thumbprint,
            req_id=request.req_id,
            tracking_code=record.tracking_code,
            audience=request.aud,
            service=request.svc,
            min_loa=request.min_loa,
            txh=request.txh,
            legal_basis=request.legal_basis,
            card_certificate=request.card_certificate,
            nonce=self.chance(32),
            policy=self.policy.levels,
            opened_ms=now_ms,
        )
        lifetime_s = self.policy.challenge_lifetime_s
        self.store.keep_code(replace(record, state=CodeState.OPEN, until_ms=now_ms + lifetime_s * 1000))
        self.store.open_inquiry(inquiry)
        _log.info("inquiry_opened")
        return Answer(
            request.req_id,
            record.tracking_code,
            Failure.NONE,
            now_ms,
            card_status=CardStatus.VALID,
            nonce=inquiry.nonce,
            lifetime_s=lifetime_s,
            policy=inquiry.policy,
        )

    def _assert(
        self,
        opened: Opened,
        request: AssertRequest,
        inquiry: Inquiry | None,
        record: CodeRecord,
        *,
        evidence_hash: bytes,
        now_ms: int,
    ) -> Answer:
        """Judge the proofs. Whatever comes of it, the nonce is used up: a refusal closes the inquiry as well."""
        if inquiry is None:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "this terminal has no such inquiry")
        if record.state is not CodeState.OPEN:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "the challenge was answered before")
        if not hmac.compare_digest(request.nonce, inquiry.nonce):
            raise _RefusedError(Failure.REGISTRY_REFUSED, "another challenge was answered")
        if now_ms > record.until_ms:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "the challenge is too old")
        header = opened.header
        if header.service != CARD_ASSERTION or header.legal_basis != inquiry.legal_basis:
            raise _RefusedError(Failure.REGISTRY_REFUSED, "the header is of another request")
        citizen = self._valid_card(inquiry.card_certificate, now_ms)
        evidence = self._prove(citizen, inquiry, request, now_ms)
        level = loa.level(evidence, inquiry.policy)
        if level < inquiry.min_loa:
            raise _RefusedError(Failure.TOO_LITTLE_ASSURANCE, "proved less than was asked for", CardStatus.VALID)
        if self.store.act_is_asserted(inquiry.audience, inquiry.txh):
            raise _RefusedError(Failure.REGISTRY_REFUSED, "this act has its assertion")
        claims = self._claims(inquiry, citizen, evidence=evidence, level=level, att=evidence_hash, now_ms=now_ms)
        token = assertion.sign(claims, self.key)
        self.store.keep_token(inquiry, token)
        self.store.keep_code(
            replace(
                record,
                state=CodeState.ASSERTED,
                until_ms=claims.exp * 1000,
                loa=level,
                token_hash=hashlib.sha256(token).digest(),
            )
        )
        _log.info("assertion_issued", loa=level)
        return Answer(
            request.req_id,
            record.tracking_code,
            Failure.NONE,
            now_ms,
            card_status=CardStatus.VALID,
            token=token,
        )

    def _prove(self, citizen: Citizen, inquiry: Inquiry, request: AssertRequest, now_ms: int) -> loa.Evidence:
        """The evidence bits: what the card office proves, and that the card's state was looked up just now."""
        challenge = card_challenge(
            nonce=inquiry.nonce,
            terminal=inquiry.terminal,
            audience=inquiry.audience,
            txh=inquiry.txh,
            policy=inquiry.policy,
        )
        proofs = Proofs(
            card_certificate=inquiry.card_certificate,
            security_object=request.security_object,
            group_hashes=dict(request.group_hashes),
            challenge=challenge,
            verdict_status=request.verdict_status,
            verdict_signature=request.verdict_signature,
        )
        try:
            proved = self.cards.prove(citizen, proofs, at_s=now_ms // 1000)
        except CardError as exc:
            raise _RefusedError(exc.failure, str(exc), CardStatus.VALID) from exc
        return proved | loa.Evidence.STATUS_FRESH

    def _claims(
        self, inquiry: Inquiry, citizen: Citizen, *, evidence: loa.Evidence, level: int, att: bytes, now_ms: int
    ) -> assertion.Claims:
        now_s = now_ms // 1000
        return assertion.Claims(
            iss=self.policy.issuer,
            aud=inquiry.audience,
            exp=now_s + assertion.USE_WITHIN_S,
            nbf=now_s,
            iat=now_s,
            cti=self.chance(16),
            nonce=inquiry.nonce,
            loa=level,
            evb=int(evidence),
            txh=inquiry.txh,
            trk=inquiry.tracking_code,
            use=1,
            sub=pseudonym(self.pseudonyms.person, citizen.national_number, inquiry.audience),
            crf=pseudonym(self.pseudonyms.card, citizen.document_number, inquiry.audience),
            pol=inquiry.policy,
            ret=now_s + self.policy.retain_s,
            svc=IDENTITY_SERVICE,
            att=att,
            trm=inquiry.terminal,
        )

    def _valid_card(self, card_certificate: bytes, now_ms: int) -> Citizen:
        """The holder of a card that is valid now; anything else ends the request."""
        at_s = now_ms // 1000
        try:
            citizen = self.cards.citizen(card_certificate, at_s=at_s)
        except CardError as exc:
            raise _RefusedError(exc.failure, str(exc)) from exc
        if citizen is None:
            raise _RefusedError(Failure.CARD_NOT_VALID_ANY_MORE, "not in the register", CardStatus.UNKNOWN)
        status = self.store.card_status(citizen.document_number) or CardStatus.VALID
        if status is CardStatus.VALID and datetime.fromtimestamp(at_s, UTC).date() > citizen.card_expires:
            status = CardStatus.EXPIRED
        if status is CardStatus.EXPIRED:
            raise _RefusedError(Failure.CARD_EXPIRED, "expired", status)
        if status is not CardStatus.VALID:
            raise _RefusedError(Failure.CARD_NOT_VALID_ANY_MORE, status.name.lower(), status)
        return citizen

    def _new_code(self, opened: Opened, request: ChallengeRequest | AssertRequest, now_ms: int) -> CodeRecord:
        audience = request.aud if isinstance(request, ChallengeRequest) else None
        return self._keep_new_code(now_ms, audience=audience, office_class=opened.header.office_class)

    def _keep_new_code(self, now_ms: int, *, audience: str | None, office_class: str | None) -> CodeRecord:
        code = tracking_code.make(self.chance(tracking_code.ENTROPY_BYTES))
        while self.store.code(code) is not None:
            code = tracking_code.make(self.chance(tracking_code.ENTROPY_BYTES))
        record = CodeRecord(code, now_ms, audience, office_class, CodeState.REFUSED, now_ms)
        self.store.keep_code(record)
        return record

    def _refuse_unread(self, name: bytes, reason: str, now_ms: int) -> bytes:
        """Even what cannot be read ends with a code (decree 000 paragraph 2)."""
        _log.warning("request_refused", reason=reason)
        with self.store.transaction():
            record = self._keep_new_code(now_ms, audience=None, office_class=None)
        answer = Answer(name, record.tracking_code, Failure.REQUEST_REFUSED, now_ms)
        return cose.sign(fields.encode(answer), self.key, ANSWER_TYPE)


def pseudonym(key: bytes, value: str, audience: str) -> bytes:
    """16 bytes that stand for `value` towards one audience and towards no other."""
    return hmac.digest(key, cbor.encode([value, audience]), "sha256")[:_PSEUDONYM_BYTES]


def _parse(body: bytes) -> ChallengeRequest | AssertRequest:
    match cbor.decode(body, max_bytes=MAX_REQUEST_BYTES):
        case {0: 1, **_others} as request:
            return fields.from_map(request, ChallengeRequest)
        case {0: 2, **_others} as request:
            return fields.from_map(request, AssertRequest)
        case _:
            raise fields.MessageRefusedError("not a request that the registry knows")
