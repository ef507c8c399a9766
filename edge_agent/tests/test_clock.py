"""Time is what the registry said, carried on by the monotonic clock; the fleet server can only raise doubt."""

from __future__ import annotations

import pytest

from edge_agent.clock import DOUBT_BEYOND_MS, HOLDOVER_S, ClockNotTrustedError, TrustedClock

T = 1_800_000_000_000


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
    assert clock.about_ms() == 0
    with pytest.raises(ClockNotTrustedError):
        clock.now_ms()


def test_time_goes_on_from_what_the_registry_said(clock: TrustedClock, ticks: Ticks) -> None:
    clock.learn(T)
    ticks.s += 2.5
    assert clock.now_ms() == T + 2_500


def test_trust_ends_after_a_day_without_a_word_but_the_guess_goes_on(clock: TrustedClock, ticks: Ticks) -> None:
    clock.learn(T)
    ticks.s += HOLDOVER_S
    assert not clock.trusted
    assert clock.about_ms() == T + HOLDOVER_S * 1000
    with pytest.raises(ClockNotTrustedError):
        clock.now_ms()


@pytest.mark.parametrize("marks", [[T + 400 * 86_400_000] * 2, [2**53], [0], [T + 29_000 * n for n in range(3000)]])
def test_no_mark_of_the_fleet_moves_the_clock(clock: TrustedClock, marks: list[int]) -> None:
    clock.learn(T)
    for mark in marks:
        clock.compare(mark)
    assert clock.now_ms() == T
    assert clock.doubted.is_set()


def test_an_old_mark_raises_no_doubt_and_the_registrys_word_ends_it(clock: TrustedClock) -> None:
    clock.learn(T)
    clock.compare(T - DOUBT_BEYOND_MS)
    assert not clock.doubted.is_set()
    clock.compare(T - DOUBT_BEYOND_MS - 1)
    assert clock.doubted.is_set()
    clock.learn(T + 5)
    assert not clock.doubted.is_set()
    assert clock.now_ms() == T + 5


@pytest.mark.parametrize("implausible", [0, 1_000_000, 2**53])
def test_a_time_outside_of_this_century_is_nobodys_time(clock: TrustedClock, implausible: int) -> None:
    clock.learn(implausible)
    assert not clock.trusted
