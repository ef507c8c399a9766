"""How dates and digits look on display: Jalali calendar, Tehran time, Persian digits. The only file with jdatetime.

Storage stays ASCII and UTC; nothing here is read back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import jdatetime

TEHRAN: Final = timezone(timedelta(hours=3, minutes=30))
"""Fixed: daylight saving time was abolished from 1402 on, before the first terminal existed."""

_PERSIAN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
_ASCII: Final = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")
_MONTHS: Final = (
    "فروردین",
    "اردیبهشت",
    "خرداد",
    "تیر",
    "مرداد",
    "شهریور",
    "مهر",
    "آبان",
    "آذر",
    "دی",
    "بهمن",
    "اسفند",
)
_DAYS: Final = ("دوشنبه", "سه‌شنبه", "چهارشنبه", "پنجشنبه", "جمعه", "شنبه", "یکشنبه")


def digits(value: object, lang: str) -> str:
    """`value` as text, with Persian digits when `lang` is ``fa``."""
    text = str(value)
    return text.translate(_PERSIAN) if lang == "fa" else text


def ascii_digits(text: str) -> str:
    """Persian and Arabic-Indic digits as ASCII, everything else unchanged."""
    return text.translate(_ASCII)


def day(at_ms: int, lang: str) -> str:
    """The day in words: ``شنبه ۱ آذر ۱۴۰۴`` or ``Saturday 22 November 2025``."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(TEHRAN)
    if lang != "fa":
        return f"{at:%A} {at.day} {at:%B} {at.year}"
    date = jdatetime.date.fromgregorian(date=at.date())
    return digits(f"{_DAYS[at.weekday()]} {date.day} {_MONTHS[date.month - 1]} {date.year}", "fa")


def clock(at_ms: int, lang: str) -> str:
    """The time of day in Tehran: ``۱۴:۳۲``."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(TEHRAN)
    return digits(f"{at:%H:%M}", lang)
