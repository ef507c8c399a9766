"""What the exchange does with a request: check it, decide, write it down, hand it on. It never looks into an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tools.simulators.nix.matrix import Denial, Matrix
from tools.simulators.nix.store import Store
from tools.simulators.party.envelope import FRESH_WITHIN_MS, EnvelopeRefusedError, Opened, open_envelope
from wire import cose, fields, tracking_code
from wire.failures import Failure
from wire.inquiry import ANSWER_TYPE, Answer

BUCKET_MS = 60_000
_ROUTED_OWNER = "nocr"
_log = structlog.get_logger()


class RegistryUnreachableError(Exception):
    """No answer of the registry. `handed_on`: whether the request may have reached it."""

    def __init__(self, reason: str, *, handed_on: bool) -> None:
        super().__init__(reason)
        self.handed_on = handed_on


@dataclass(frozen=True, slots=True)
class Exchange:
    """`forward` posts envelope bytes to the registry and gives its answer's bytes, or RegistryUnreachableError.

    `now_ms` and `chance` (n random bytes) are the exchange's own.
    """

    store: Store
    matrix: Matrix
    authorities: Sequence[x509.Certificate]
    key: ec.EllipticCurvePrivateKey
    forward: Callable[[bytes], Awaitable[bytes]]
    now_ms: Callable[[], int]
    chance: Callable[[int], bytes]

    async def inquire(self, data: bytes) -> tuple[bytes, bool]:
        """The answer to an envelope: the registry's, untouched, or a refusal of our own with a code of our own.

        The second value says whether the envelope was readable at all.
        """
        now_ms = self.now_ms()
        try:
            opened = open_envelope(data, self.authorities, now_ms=now_ms)
        except EnvelopeRefusedError as exc:
            _log.warning("envelope_refused", reason=exc.reason)
            return self.refuse(exc.trace_id or name_of(data), Failure.REQUEST_REFUSED), exc.trace_id is not None
        return await self._judge(data, opened, now_ms=now_ms), True

    async def _judge(self, data: bytes, opened: Opened, *, now_ms: int) -> bytes:
        header = opened.header
        forget_before_ms = now_ms - 2 * FRESH_WITHIN_MS
        if not self.store.first_seen(
            opened.thumbprint, header.trace_id, at_ms=now_ms, forget_before_ms=forget_before_ms
        ):
            _log.warning("trace_replayed")
            return self.refuse(header.trace_id, Failure.REQUEST_REFUSED)
        decision = self.matrix.decide(
            agency=header.from_agency,
            office_class=header.office_class,
            service=header.service,
            owner=header.to_agency,
        )
        if isinstance(decision, Denial):
            self._write_down(opened, now_ms=now_ms, forwarded=False)
            return self.refuse(header.trace_id, Failure.NOT_PERMITTED, missing=decision.missing)
        if header.to_agency != _ROUTED_OWNER:
            self._write_down(opened, now_ms=now_ms, forwarded=False)
            return self.refuse(header.trace_id, Failure.REGISTRY_UNREACHABLE)
        row = self._write_down(opened, now_ms=now_ms, forwarded=True)
        try:
            return await self.forward(data)
        except RegistryUnreachableError as exc:
            if not exc.handed_on:
                self.store.not_forwarded(row)
            return self.refuse(header.trace_id, Failure.REGISTRY_UNREACHABLE)

    def refuse(self, name: bytes, failure: Failure, *, missing: str | None = None) -> bytes:
        """A signed refusal of the exchange itself about the request called `name`, with a committed code of its own."""
        now_ms = self.now_ms()
        code = tracking_code.make(self.chance(tracking_code.ENTROPY_BYTES))
        while not self.store.keep_code(code, bucket_ms=_bucket(now_ms)):
            code = tracking_code.make(self.chance(tracking_code.ENTROPY_BYTES))
        answer = Answer(name, code, failure, now_ms, missing_decision=missing)
        return cose.sign(fields.encode(answer), self.key, ANSWER_TYPE)

    def _write_down(self, opened: Opened, *, now_ms: int, forwarded: bool) -> int:
        """The log row and the log line of a request, both before anything is handed on."""
        header = opened.header
        _log.info(
            "request",
            trace_id=header.trace_id.hex(),
            from_agency=header.from_agency,
            to_agency=header.to_agency,
            service=header.service,
            legal_basis=header.legal_basis,
            office_class=header.office_class,
            at_ms=header.at_ms,
            size_bucket=header.size_bucket,
            body_hash=header.body_hash.hex(),
            bucket_ms=_bucket(now_ms),
            forwarded=forwarded,
        )
        return self.store.log(header, bucket_ms=_bucket(now_ms), forwarded=forwarded)


def name_of(data: bytes) -> bytes:
    """How a refusal names a request whose header cannot be read: the head of the hash of what arrived."""
    return hashlib.sha256(data).digest()[:16]


def _bucket(at_ms: int) -> int:
    return at_ms - at_ms % BUCKET_MS
