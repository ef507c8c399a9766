"""How times and digits look on display: Jalali calendar, Tehran time, Persian digits. The only file with jdatetime.

Storage stays ASCII and UTC; nothing here is read back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import jdatetime

TEHRAN: Final = timezone(timedelta(hours=3, minutes=30))
"""Fixed: daylight saving time was abolished from 1402 on, before the first terminal existed."""

_LATEST_S: Final = 32_503_680_000
"""A terminal's clock may say anything; what is beyond the year 3000 is shown as that, as calendars end somewhere."""
_PERSIAN: Final = str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫")
_PERSIAN_PLAIN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")


def digits(value: object, lang: str) -> str:
    """`value` as text; in Persian with Persian digits."""
    return str(value).translate(_PERSIAN_PLAIN) if lang == "fa" else str(value)


def number(value: float, lang: str, *, places: int = 0) -> str:
    """A number with thousands apart: ``12,345.6`` or ``۱۲٬۳۴۵٫۶``."""
    text = f"{value:,.{places}f}"
    return text.translate(_PERSIAN).replace(",", "٬") if lang == "fa" else text


def date(at_ms: int, lang: str) -> str:
    """The day in figures: ``۱۴۰۵/۰۸/۳۰`` or ``2026-11-21``."""
    at = _tehran(at_ms)
    if lang != "fa":
        return f"{at:%Y-%m-%d}"
    day = jdatetime.date.fromgregorian(date=at.date())
    return digits(f"{day.year:04}/{day.month:02}/{day.day:02}", "fa")


def moment(at_ms: int, lang: str) -> str:
    """Day and time of day to the second, in Tehran."""
    return f"{date(at_ms, lang)} {digits(f'{_tehran(at_ms):%H:%M:%S}', lang)}"


def _tehran(at_ms: int) -> datetime:
    seconds = min(max(at_ms / 1000, 0), _LATEST_S)
    return datetime.fromtimestamp(seconds, UTC).astimezone(TEHRAN)
