"""Verification by tracking code (اصالت‌سنجی کد رهگیری): what anybody who holds a code and its audience, or its token's
hash, may learn. Never anything personal; and whoever guesses learns nothing, for wrong and unknown look the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from tools.simulators.registry.store import CodeRecord, CodeState, Store
from wire import cbor, cose, tracking_code

RESULT_TYPE: Final = "govah-verification;v=1"
_HEX_DIGEST: Final = r"\A[0-9a-fA-F]{64}\Z"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code, and one of the two things that only its holders know."""

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    aud: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    token_hash: Annotated[str, msgspec.Meta(pattern=_HEX_DIGEST)] | None = None
    """SHA-256 of the token, hexadecimal."""


class State(StrEnum):
    """What became of a code. The first consumer of an assertion makes it `consumed`, a second one `reused`."""

    ISSUED = "issued"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    REUSED = "reused"
    CANCELLED = "cancelled"
    """The inquiry ended without an assertion."""


class Result(msgspec.Struct, frozen=True):
    """All fields but `code` and `checked_at` are None unless `exists`."""

    code: str
    checked_at: str
    """RFC 3339, UTC."""
    exists: bool
    issued_at: str | None = None
    audience_class: str | None = None
    loa: int | None = None
    """None: no assertion was issued under this code."""
    state: State | None = None
    token_hash_matches: bool | None = None
    """None: the asker gave no hash."""


class TypingMistakeError(Exception):
    """The code cannot be one: a symbol is wrong. The asker should look again; nothing was looked up."""


class QuestionRefusedError(Exception):
    """Not a question: neither audience nor token hash."""


@dataclass(frozen=True, slots=True)
class Verification:
    """`key` signs results; `now_ms` is the registry's clock."""

    store: Store
    key: ec.EllipticCurvePrivateKey
    now_ms: Callable[[], int]

    def check(self, question: Question) -> Result:
        """What the asker may know.

        Raises:
            TypingMistakeError: the check symbol or another symbol is wrong.
            QuestionRefusedError: see there.
        """
        if question.aud is None and question.token_hash is None:
            raise QuestionRefusedError
        try:
            code = tracking_code.parse(question.code)
        except tracking_code.TrackingCodeError as exc:
            raise TypingMistakeError from exc
        now_ms = self.now_ms()
        record = self.store.code(code)
        if record is None or not _asker_holds(record, question):
            return Result(code, _text(now_ms), exists=False)
        return Result(
            code,
            _text(now_ms),
            exists=True,
            issued_at=_text(record.issued_ms),
            audience_class=record.office_class,
            loa=record.loa,
            state=_state(record, now_ms),
            token_hash_matches=True if question.token_hash is not None else None,
        )

    def sign(self, result: Result) -> bytes:
        """`result` as COSE_Sign1 of `RESULT_TYPE`: a CBOR map from field name to value."""
        plain: dict[str, Any] = msgspec.to_builtins(result)
        return cose.sign(cbor.encode(plain), self.key, RESULT_TYPE)


def _asker_holds(record: CodeRecord, question: Question) -> bool:
    """Whether everything that the asker named is right; both, if both are named."""
    audience = question.aud is None or (
        record.audience is not None and hmac.compare_digest(record.audience.encode(), question.aud.encode())
    )
    token = question.token_hash is None or (
        record.token_hash is not None and hmac.compare_digest(record.token_hash, bytes.fromhex(question.token_hash))
    )
    return audience and token


def _state(record: CodeRecord, now_ms: int) -> State:
    if record.state is CodeState.REFUSED:
        return State.CANCELLED
    return State.EXPIRED if now_ms > record.until_ms else State.ISSUED


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RateLimit:
    """So many questions per client and minute, for a bounded number of clients; the rest wait."""

    def __init__(self, *, per_minute: int, clients_max: int, now_ms: Callable[[], int]) -> None:
        self._per_minute = per_minute
        self._clients_max = clients_max
        self._now_ms = now_ms
        self._minute = -1
        self._asked: dict[str, int] = {}

    def admit(self, client: str) -> bool:
        """Count one question of `client`; False if it is one too many."""
        minute = self._now_ms() // 60_000
        if minute != self._minute:
            self._minute, self._asked = minute, {}
        if client not in self._asked and len(self._asked) >= self._clients_max:
            return False
        self._asked[client] = self._asked.get(client, 0) + 1
        return self._asked[client] <= self._per_minute
