"""The terminal's only way out: inquiries to the civil registry through the national exchange (decree 004, article 3).

Every request is signed by the terminal, every answer by the registry (or by the exchange, for what it refuses itself).
An answer that got lost is asked for again with the same signed request: the registry answers a repetition with what it
answered before, so that no inquiry is counted twice and none ends without its tracking code.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.errors import InquiryError
from wire import cbor, cose, fields, tracking_code
from wire.failures import Failure
from wire.inquiry import (
    ANSWER_TYPE,
    CARD_ASSERTION,
    MAX_ANSWER_BYTES,
    MAX_ENVELOPE_BYTES,
    MEDIA_TYPE,
    REQUEST_TYPE,
    TIME_TYPE,
    TRACE_TYPE,
    Answer,
    AssertRequest,
    CardStatus,
    ChallengeRequest,
    Envelope,
    TimeAnswer,
    TimeRequest,
    TraceHeader,
)

INQUIRIES_PATH: Final = "/nix/v1/inquiries"
TIME_PATH: Final = "/nix/v1/time"
_KIB = 1024
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Route:
    """Where the exchange is and who asks. `ca` is a PEM file; no other authority is believed.

    `attempt_s` limits one exchange of messages, `deadline_s` all attempts at one request together.
    """

    url: str
    ca: Path
    from_agency: str
    to_agency: str = "nocr"
    attempt_s: float = 8.0
    deadline_s: float = 25.0
    attempts_max: int = 4
    pause_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Credentials:
    """The terminal's key and certificate (DER), and whose signature counts on an answer."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes
    registry_key: ec.EllipticCurvePublicKey
    nix_key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Challenge:
    """An open inquiry: the registry waits `lifetime_s` seconds for the card's proof over `nonce`."""

    req_id: bytes
    nonce: bytes
    tracking_code: str
    policy: str
    lifetime_s: int
    card_status: CardStatus
    office_class: str
    legal_basis: str


@dataclass(frozen=True, slots=True)
class Granted:
    """What the registry gave. The token is *not yet verified*; `evidence` is what its claim `att` is the hash of."""

    token: bytes = field(repr=False)
    tracking_code: str
    evidence: bytes = field(repr=False)


class _NoAnswerError(Exception):
    """This attempt brought nothing that can be believed; another may. `failure` is what it means if none does."""

    def __init__(self, failure: Failure, reason: str, tracking_code: str | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.tracking_code = tracking_code


class Inquiry:
    """The door to the exchange. `now_ms` is the trusted time in Unix milliseconds, `chance` gives n random bytes.

    What `now_ms` raises without trusted time goes through. `transport` is for tests that have no network.
    """

    def __init__(
        self,
        route: Route,
        credentials: Credentials,
        *,
        now_ms: Callable[[], int],
        chance: Callable[[int], bytes],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Opens no connection yet.

        Raises:
            OSError: the file `route.ca` is missing or holds no certificate (`ssl.SSLError` included).
            ValueError: the exchange's address is not an https address.
        """
        if httpx.URL(route.url).scheme != "https":
            raise ValueError("the exchange is reached over https only")
        self._route = route
        self._credentials = credentials
        self._now_ms = now_ms
        self._chance = chance
        self._http = httpx.AsyncClient(
            base_url=route.url,
            verify=ssl.create_default_context(cafile=str(route.ca)),
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=route.attempt_s,
            headers={"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE, "accept-encoding": "identity"},
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=1),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.aclose()

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
    ) -> Challenge:
        """Ask the registry for a challenge about one card and one act.

        Raises:
            InquiryError: refused, unreachable until the deadline, or an answer that nobody we know has signed.
        """
        request = ChallengeRequest(self._chance(16), audience, service, min_loa, txh, legal_basis, card_certificate)
        answer = await self._ask(request, office_class=office_class, legal_basis=legal_basis, code=None)
        if answer.nonce is None or answer.policy is None or answer.lifetime_s is None or answer.card_status is None:
            raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, "not a challenge", answer.tracking_code)
        return Challenge(
            req_id=request.req_id,
            nonce=answer.nonce,
            tracking_code=answer.tracking_code,
            policy=answer.policy,
            lifetime_s=answer.lifetime_s,
            card_status=answer.card_status,
            office_class=office_class,
            legal_basis=legal_basis,
        )

    async def obtain(
        self,
        challenge: Challenge,
        *,
        security_object: bytes,
        group_hashes: dict[int, bytes],
        verdict_status: bytes,
        verdict_signature: bytes,
    ) -> Granted:
        """Hand in the proofs and take the assertion.

        Raises:
            InquiryError: as for `open_inquiry`; its code is at least the challenge's.
        """
        request = AssertRequest(
            challenge.req_id, challenge.nonce, security_object, group_hashes, verdict_status, verdict_signature
        )
        answer = await self._ask(
            request,
            office_class=challenge.office_class,
            legal_basis=challenge.legal_basis,
            code=challenge.tracking_code,
        )
        if answer.token is None or answer.tracking_code != challenge.tracking_code:
            raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, "not this inquiry's assertion", challenge.tracking_code)
        return Granted(answer.token, answer.tracking_code, fields.encode(request))

    async def trusted_time(self) -> int:
        """The registry's time now, in Unix milliseconds: signed for our nonce, half the round trip added.

        Raises:
            InquiryError: unreachable, or not the registry's answer to this question.
        """
        nonce = self._chance(16)
        loop = asyncio.get_running_loop()
        asked_at_s = loop.time()
        try:
            data = await self._post(TIME_PATH, fields.encode(TimeRequest(nonce)))
            answer = fields.decode(cose.open_signed(data, self._credentials.registry_key, TIME_TYPE), TimeAnswer)
        except _NoAnswerError as exc:
            raise InquiryError(exc.failure, str(exc)) from exc
        except (cbor.CborRefusedError, cose.SignatureRefusedError, fields.MessageRefusedError) as exc:
            raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, str(exc)) from exc
        if answer.nonce != nonce:
            raise InquiryError(Failure.REGISTRY_ANSWER_REFUSED, "the time was told to somebody else")
        return answer.at_ms + int((loop.time() - asked_at_s) * 500)

    async def _ask(
        self, request: ChallengeRequest | AssertRequest, *, office_class: str, legal_basis: str, code: str | None
    ) -> Answer:
        """The answer to a request, if it is not a refusal. `code` is what is known of the inquiry before it.

        The request is signed once. Each attempt carries it under a trace header of its own, for the exchange takes a
        header only once.
        """
        try:
            encoded = fields.encode(request)
        except fields.MessageRefusedError as exc:
            raise InquiryError(Failure.REQUEST_REFUSED, exc.reason, code) from exc
        body = cose.sign(encoded, self._credentials.key, REQUEST_TYPE)
        last = _NoAnswerError(Failure.REGISTRY_UNREACHABLE, "no time left for an attempt")
        try:
            async with asyncio.timeout(self._route.deadline_s):
                for attempt in range(self._route.attempts_max):
                    await asyncio.sleep(self._route.pause_s * attempt)
                    try:
                        return await self._attempt(request.req_id, body, office_class, legal_basis)
                    except _NoAnswerError as exc:
                        last = exc
                        _log.warning("inquiry_attempt_failed", failure=exc.failure.name, attempt=attempt + 1)
        except TimeoutError:
            _log.warning("inquiry_deadline_passed")
        raise InquiryError(last.failure, str(last), code or last.tracking_code) from last

    async def _attempt(self, req_id: bytes, body: bytes, office_class: str, legal_basis: str) -> Answer:
        trace_id = self._chance(16)
        answer, from_registry = self._verified(
            await self._post(INQUIRIES_PATH, self._envelope(trace_id, body, office_class, legal_basis))
        )
        if answer.req_id not in (req_id, trace_id):
            raise _NoAnswerError(Failure.REGISTRY_ANSWER_REFUSED, "the answer to another request")
        if answer.failure is Failure.REGISTRY_UNREACHABLE and not from_registry:
            raise _NoAnswerError(answer.failure, "the exchange cannot reach the registry", answer.tracking_code)
        if answer.failure is not Failure.NONE:
            detail = answer.missing_decision or answer.failure.name.lower()
            raise InquiryError(answer.failure, detail, answer.tracking_code)
        if not from_registry or answer.req_id != req_id:
            raise InquiryError(
                Failure.REGISTRY_ANSWER_REFUSED, "a grant that is not the registry's", answer.tracking_code
            )
        return answer

    def _envelope(self, trace_id: bytes, body: bytes, office_class: str, legal_basis: str) -> bytes:
        """`body` under a fresh trace header, signed."""
        header = TraceHeader(
            trace_id=trace_id,
            from_agency=self._route.from_agency,
            to_agency=self._route.to_agency,
            service=CARD_ASSERTION,
            legal_basis=legal_basis,
            office_class=office_class,
            at_ms=self._now_ms(),
            size_bucket=-(-len(body) // _KIB),
            body_hash=hashlib.sha256(body).digest(),
        )
        signed = cose.sign(fields.encode(header), self._credentials.key, TRACE_TYPE)
        envelope = fields.encode(Envelope(signed, body, self._credentials.certificate))
        if len(envelope) > MAX_ENVELOPE_BYTES:
            raise InquiryError(Failure.REQUEST_REFUSED, "the request is too long")
        return envelope

    def _verified(self, data: bytes) -> tuple[Answer, bool]:
        """An answer that the registry (True) or the exchange (False) has signed."""
        try:
            envelope = cose.parse(data)
            if envelope.type != ANSWER_TYPE:
                raise _NoAnswerError(Failure.REGISTRY_ANSWER_REFUSED, "another message type")
            from_registry = envelope.kid == cose.key_id(self._credentials.registry_key)
            cose.verify(envelope, self._credentials.registry_key if from_registry else self._credentials.nix_key)
            answer = fields.decode(envelope.payload, Answer, max_bytes=MAX_ANSWER_BYTES)
            if tracking_code.parse(answer.tracking_code) != answer.tracking_code:
                raise _NoAnswerError(Failure.REGISTRY_ANSWER_REFUSED, "a code that is not in its one form")
        except (
            cbor.CborRefusedError,
            cose.SignatureRefusedError,
            fields.MessageRefusedError,
            tracking_code.TrackingCodeError,
        ) as exc:
            raise _NoAnswerError(Failure.REGISTRY_ANSWER_REFUSED, str(exc)) from exc
        return answer, from_registry

    async def _post(self, path: str, body: bytes) -> bytes:
        """What came back, whatever the status: an answer is known by its signature."""
        try:
            async with (
                asyncio.timeout(self._route.attempt_s),
                self._http.stream("POST", path, content=body) as response,
            ):
                if response.headers.get("content-type") != MEDIA_TYPE:
                    raise _NoAnswerError(Failure.REGISTRY_UNREACHABLE, f"status {response.status_code}, no answer")
                held = bytearray()
                async for chunk in response.aiter_raw():
                    held += chunk
                    if len(held) > MAX_ANSWER_BYTES:
                        raise _NoAnswerError(Failure.REGISTRY_ANSWER_REFUSED, "answer too long")
                return bytes(held)
        except TimeoutError as exc:
            raise _NoAnswerError(Failure.REGISTRY_UNREACHABLE, "no answer in time") from exc
        except httpx.HTTPError as exc:
            raise _NoAnswerError(Failure.REGISTRY_UNREACHABLE, type(exc).__name__) from exc
