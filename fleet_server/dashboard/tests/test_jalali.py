"""Times and digits on display."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet_server.dashboard import jalali


def test_the_jalali_year_begins_at_midnight_in_tehran() -> None:
    at_ms = int(datetime(2025, 3, 20, 20, 30, tzinfo=UTC).timestamp() * 1000)
    assert jalali.moment(at_ms - 1, "fa") == "۱۴۰۳/۱۲/۳۰ ۲۳:۵۹:۵۹"
    assert jalali.moment(at_ms, "fa") == "۱۴۰۴/۰۱/۰۱ ۰۰:۰۰:۰۰"
    assert jalali.moment(at_ms, "en") == "2025-03-21 00:00:00"


def test_numbers_are_grouped_and_have_the_persian_decimal_mark() -> None:
    assert jalali.number(12345.6, "fa", places=1) == "۱۲٬۳۴۵٫۶"
    assert jalali.number(12345.6, "en", places=1) == "12,345.6"


@given(st.integers(min_value=0, max_value=2**53), st.sampled_from(["fa", "en"]))
def test_every_time_that_a_terminal_can_send_can_be_shown(at_ms: int, lang: str) -> None:
    assert len(jalali.moment(at_ms, lang)) == len("1404/01/01 00:00:00")
