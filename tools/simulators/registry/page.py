"""The verification page: Persian first, right to left, Jalali dates and Persian digits; English by a switch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Literal

import jdatetime
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tools.simulators.registry.verification import Result, State

PAGES: Final = Path(__file__).parent / "pages"
Language = Literal["fa", "en"]

_IRAN_TIME: Final = timezone(timedelta(hours=3, minutes=30))
_PERSIAN_DIGITS: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_KINDS: Final = {State.ISSUED: "good", State.CONSUMED: "good", State.REUSED: "bad"}
"""The colour of an assertion's state. A code without an assertion is never shown as good."""

_TEXT: Final[dict[Language, dict[str, str]]] = {
    "fa": {
        "title": "اصالت‌سنجی کد رهگیری",
        "simulated": "شبیه‌ساز ثبت احوال: هیچ‌کدام از این داده‌ها واقعی نیست.",
        "lead": "کد رهگیری و یکی از دو مورد دیگر را وارد کنید. هیچ دادهٔ شخصی نشان داده نمی‌شود.",
        "code": "کد رهگیری",
        "aud": "شناسهٔ دستگاه استعلام‌کننده",
        "token_hash": "چکیدهٔ گواهی (SHA-256)",
        "ask": "بررسی",
        "other_language": "English",
        "note": "امضای این پاسخ از راه ‎/api/v1/verify‎ در دسترس است.",
        "typing_mistake": "کد درست تایپ نشده است: یکی از نشانه‌ها با نشانهٔ کنترلی نمی‌خواند. دوباره نگاه کنید.",
        "need_one": "شناسهٔ دستگاه یا چکیدهٔ گواهی را هم وارد کنید.",
        "rate": "پرسش‌ها از اندازه گذشت؛ یک دقیقه شکیبا باشید.",
        "unknown": "چنین کدی برای این دستگاه یا این گواهی یافت نشد",
        "exists": "این کد در ثبت احوال هست",
        "state": "وضعیت",
        "issued_at": "زمان صدور",
        "audience_class": "گونهٔ دستگاه",
        "loa": "سطح اطمینان",
        "no_assertion": "گواهی صادر نشده است",
        "token_hash_matches": "چکیدهٔ گواهی",
        "matches": "همخوان است",
        "not_checked": "بررسی نشد",
        "checked_at": "زمان بررسی",
        "issued": "صادر شده",
        "consumed": "مصرف شده",
        "expired": "مهلت گذشته",
        "reused": "بیش از یک بار ارائه شده",
        "cancelled": "بی‌نتیجه پایان یافته",
        "class_notary": "دفتر اسناد رسمی",
        "class_bank": "بانک",
    },
    "en": {
        "title": "Verify a tracking code",
        "simulated": "Simulator of the civil registry: none of this data is real.",
        "lead": "Enter the tracking code and one of the other two. Nothing personal is shown.",
        "code": "Tracking code",
        "aud": "Id of the inquiring party",
        "token_hash": "Hash of the assertion (SHA-256)",
        "ask": "Check",
        "other_language": "فارسی",
        "note": "The signature of this answer is available from /api/v1/verify.",
        "typing_mistake": "The code is mistyped: a symbol does not fit the check symbol. Please look again.",
        "need_one": "Enter the party's id or the assertion's hash as well.",
        "rate": "Too many questions; please wait a minute.",
        "unknown": "No such code for this party or this assertion",
        "exists": "The civil registry holds this code",
        "state": "State",
        "issued_at": "Issued",
        "audience_class": "Kind of party",
        "loa": "Level of assurance",
        "no_assertion": "no assertion was issued",
        "token_hash_matches": "Assertion hash",
        "matches": "matches",
        "not_checked": "not checked",
        "checked_at": "Checked",
        "issued": "issued",
        "consumed": "consumed",
        "expired": "past its time",
        "reused": "presented more than once",
        "cancelled": "ended without an assertion",
        "class_notary": "notary office",
        "class_bank": "bank",
    },
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form held, to be shown again."""

    code: str = ""
    aud: str = ""
    token_hash: str = ""


class Page:
    """Draws the page; holds the compiled template."""

    def __init__(self) -> None:
        environment = Environment(loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined)
        self._template = environment.get_template("verify.html")
        self.style = (PAGES / "verify.css").read_text(encoding="utf-8")

    def empty(self, lang: Language, asked: Asked = Asked(), *, message: str | None = None) -> str:
        """The form, with a sentence (a key of the texts) under it if there is one to say."""
        text = _TEXT[lang]
        said = text[message] if message else None
        return self._template.render(lang=lang, t=text, asked=asked, message=said, rows=[], kind="", headline="")

    def answered(self, lang: Language, asked: Asked, result: Result) -> str:
        """The form and the answer."""
        text = _TEXT[lang]
        return self._template.render(
            lang=lang,
            t=text,
            asked=asked,
            message=None,
            rows=_rows(lang, result),
            kind=_kind(result),
            headline=text["exists" if result.exists else "unknown"],
        )


def _kind(result: Result) -> str:
    if not result.exists or result.state is None:
        return "bad"
    return "warn" if result.loa is None else _KINDS.get(result.state, "warn")


def _rows(lang: Language, result: Result) -> list[tuple[str, str]]:
    text = _TEXT[lang]
    checked = (text["checked_at"], _moment(lang, result.checked_at))
    if not result.exists or result.state is None or result.issued_at is None:
        return [(text["code"], result.code), checked]
    level = text["no_assertion"] if result.loa is None else _digits(lang, str(result.loa))
    return [
        (text["code"], result.code),
        (text["state"], text[result.state]),
        (text["issued_at"], _moment(lang, result.issued_at)),
        (text["audience_class"], text.get(f"class_{result.audience_class}", result.audience_class or "—")),
        (text["loa"], level),
        (text["token_hash_matches"], text["matches" if result.token_hash_matches else "not_checked"]),
        checked,
    ]


def _moment(lang: Language, rfc3339: str) -> str:
    """Iran time: Jalali with Persian digits, or Gregorian."""
    at = datetime.fromisoformat(rfc3339).astimezone(_IRAN_TIME)
    if lang == "en":
        return at.strftime("%Y-%m-%d %H:%M (UTC+03:30)")
    return _digits(lang, jdatetime.datetime.fromgregorian(datetime=at).strftime("%Y/%m/%d %H:%M"))


def _digits(lang: Language, text: str) -> str:
    return text.translate(_PERSIAN_DIGITS) if lang == "fa" else text
