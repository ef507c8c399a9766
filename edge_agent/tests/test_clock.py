"""Time is what an authenticated peer said, carried on by the monotonic clock."""

from __future__ import annotations

import pytest

from edge_agent.clock import HOLDOVER_S, ClockNotTrustedError, TrustedClock


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def clock(ticks: Ticks) -> TrustedClock:
    return TrustedClock(ticks)


def test_nobody_has_said_the_time_so_it_is_not_trusted(clock: TrustedClock) -> None:
    assert not clock.trusted
    with pytest.raises(ClockNotTrustedError):
        clock.now_ms()


def test_time_goes_on_from_what_the_peer_said(clock: TrustedClock, ticks: Ticks) -> None:
    clock.learn(5_000, "fleet")
    ticks.s += 2.5
    assert clock.now_ms() == 7_500


def test_trust_ends_after_a_day_without_a_word(clock: TrustedClock, ticks: Ticks) -> None:
    clock.learn(5_000, "fleet")
    ticks.s += HOLDOVER_S
    assert not clock.trusted
    with pytest.raises(ClockNotTrustedError):
        clock.now_ms()


def test_a_peer_that_contradicts_the_other_takes_the_trust_away_until_somebody_speaks_again(
    clock: TrustedClock,
) -> None:
    clock.learn(5_000, "registry")
    clock.learn(5_000 + 3_600_000, "fleet")
    assert not clock.trusted
    clock.learn(6_000, "registry")
    assert clock.now_ms() == 6_000


def test_a_small_difference_is_taken_over(clock: TrustedClock) -> None:
    clock.learn(5_000, "registry")
    clock.learn(9_000, "fleet")
    assert clock.now_ms() == 9_000
