"""What `govah verify` says, in Persian and English. Pure text; `wire.assertion` decides."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from edge_agent.kiosk import jalali
from wire.assertion import Claims, Outcome, Verdict
from wire.loa import Evidence

GENUINE: Final = frozenset({Outcome.GENUINE_NOW, Outcome.GENUINE_PAST, Outcome.OTHER_AUDIENCE})
EXIT_STATUS: Final[dict[Outcome, int]] = {
    Outcome.GENUINE_NOW: 0,
    Outcome.GENUINE_PAST: 3,
    Outcome.OTHER_AUDIENCE: 4,
    Outcome.UNKNOWN_ISSUER: 1,
    Outcome.ALTERED: 1,
    Outcome.UNSUPPORTED_VERSION: 1,
    Outcome.CANNOT_CHECK: 1,
}


class Words(NamedTuple):
    fa: str
    en: str


SENTENCES: Final[dict[Outcome, Words]] = {
    Outcome.GENUINE_NOW: Words(
        "اصیل است، برای شما صادر شده و اکنون معتبر است.",
        "Genuine, for you, now.",
    ),
    Outcome.GENUINE_PAST: Words(
        "اصیل است و برای شما صادر شده، ولی زمان کاربرد آن گذشته است؛ تنها سند تراکنش گذشته است.",
        "Genuine, for you, past: its transaction is over and it serves as evidence only.",
    ),
    Outcome.OTHER_AUDIENCE: Words(
        "اصیل است، ولی برای دستگاه دیگری صادر شده و برای شما ارزشی ندارد.",
        "Genuine, but for another relying party: it is worth nothing to you.",
    ),
    Outcome.UNKNOWN_ISSUER: Words(
        "صادرکننده شناخته نیست. به آن تکیه نکنید.",
        "Unknown issuer: no key that was given signed this. Do not rely on it.",
    ),
    Outcome.ALTERED: Words(
        "دست خورده است یا گواهی نیست. آن را نپذیرید.",
        "Altered, or not an assertion at all. Do not accept it.",
    ),
    Outcome.UNSUPPORTED_VERSION: Words(
        "این ابزار این نسخه از گواهی را نمی‌شناسد. با ابزار تازه‌تر بررسی کنید و تا آن زمان نپذیرید.",
        "A version that this tool does not support. Check with a newer one; do not accept it before.",
    ),
    Outcome.CANNOT_CHECK: Words(
        "بررسی ممکن نشد. گواهی بررسی‌نشده را نپذیرید.",
        "Cannot check. What is not checked must not be accepted.",
    ),
}

NOT_CHECKED_OFFLINE: Final = Words(
    "بررسی برون‌خط: ابطال یا کاربرد دوباره پس از صدور بررسی نشد.",
    "Checked offline: later revocation or a second use was not checked.",
)

LEVELS: Final[dict[int, Words]] = {
    1: Words("دادهٔ کارت", "card data"),
    2: Words("کارت اصیل", "genuine card"),
    3: Words("دارنده", "holder"),
    4: Words("حضور احرازشده", "verified presence"),
}


def as_json(verdict: Verdict, *, at: int, audience: str | None, notes: list[str]) -> dict[str, Any]:
    """The one-line form. Claims are there only for a genuine token, so that nobody can read past the outcome."""
    sentence = SENTENCES[verdict.outcome]
    return {
        "outcome": verdict.outcome.value,
        "genuine": verdict.outcome in GENUINE,
        "reason": verdict.reason,
        "fa": sentence.fa,
        "en": sentence.en,
        "checked_at": _rfc3339(at),
        "asked_for": audience,
        "later_revocation_checked": False,
        "notes": notes,
        "claims": _claims(verdict.claims) if verdict.claims and verdict.outcome in GENUINE else None,
    }


def lines(verdict: Verdict, *, audience: str | None, notes: list[str]) -> Iterator[str]:
    """What a person reads."""
    sentence = SENTENCES[verdict.outcome]
    yield sentence.fa
    yield sentence.en
    yield f"({verdict.outcome.value}: {verdict.reason})"
    if verdict.outcome is Outcome.OTHER_AUDIENCE and audience is None:
        yield "برای کدام دستگاه؟ شناسه را با --for بدهید.  |  For whom? Name the relying party with --for."
    if verdict.claims and verdict.outcome in GENUINE:
        yield ""
        yield from _in_words(verdict.claims)
        yield ""
        yield NOT_CHECKED_OFFLINE.fa
        yield NOT_CHECKED_OFFLINE.en
    for note in notes:
        yield f"! {note}"


def _in_words(claims: Claims) -> Iterator[str]:
    level = LEVELS[claims.loa]
    yield f"سطح اطمینان      {jalali.digits(claims.loa, 'fa')} ({level.fa})"
    yield f"کد رهگیری        {claims.trk}"
    yield f"زمان صدور        {_jalali(claims.iat)}"
    yield f"دریافت‌کننده     {claims.aud}"
    yield ""
    yield f"level            {claims.loa} ({level.en})"
    yield f"tracking code    {claims.trk}"
    yield f"issued           {_rfc3339(claims.iat)}, for use until {_rfc3339(claims.exp)}"
    yield f"relying party    {claims.aud}"
    yield f"issuer           {claims.iss}"
    yield f"service          {claims.svc}"
    yield f"evidence         {', '.join(_evidence(claims))} under {claims.pol}"


def _claims(claims: Claims) -> dict[str, Any]:
    return {
        "issuer": claims.iss,
        "audience": claims.aud,
        "level": claims.loa,
        "tracking_code": claims.trk,
        "issued_at": _rfc3339(claims.iat),
        "use_until": _rfc3339(claims.exp),
        "retain_until": _rfc3339(claims.ret),
        "service": claims.svc,
        "policy": claims.pol,
        "evidence": _evidence(claims),
        "transaction_hash": claims.txh.hex(),
        "token_id": claims.cti.hex(),
    }


def _evidence(claims: Claims) -> list[str]:
    return [bit.name.lower() for bit in Evidence if bit in Evidence(claims.evb) and bit.name]


def _jalali(at: int) -> str:
    try:
        return f"{jalali.day(at * 1000, 'fa')}، ساعت {jalali.clock(at * 1000, 'fa')}"
    except (OverflowError, ValueError, OSError):
        return f"{jalali.digits(at, 'fa')} ثانیه"


def _rfc3339(at: int) -> str:
    """UTC in RFC 3339; a time that no calendar holds as plain seconds, since a signed claim may say anything."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{at} s"
