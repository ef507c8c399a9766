"""Dates and digits on display."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edge_agent.kiosk import jalali


def at_ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc] # year to minute


@pytest.mark.parametrize(
    ("when", "fa"),
    [
        ((2025, 3, 20, 20, 29), "پنجشنبه ۳۰ اسفند ۱۴۰۳"),  # a leap year of the Jalali calendar, one minute to midnight
        ((2025, 3, 20, 20, 30), "جمعه ۱ فروردین ۱۴۰۴"),
        ((2026, 11, 21, 0, 0), "شنبه ۳۰ آبان ۱۴۰۵"),
    ],
)
def test_the_day_changes_at_midnight_in_tehran(when: tuple[int, ...], fa: str) -> None:
    assert jalali.day(at_ms(*when), "fa") == fa


def test_english_stays_gregorian_with_ascii_digits() -> None:
    assert jalali.day(at_ms(2026, 11, 21, 0, 0), "en") == "Saturday 21 November 2026"
    assert jalali.clock(at_ms(2026, 11, 21, 0, 0), "en") == "03:30"
    assert jalali.clock(at_ms(2026, 11, 21, 0, 0), "fa") == "۰۳:۳۰"


def test_typed_digits_of_either_script_become_ascii() -> None:
    assert jalali.ascii_digits("۱۲۳-٤٥٦-789") == "123-456-789"
