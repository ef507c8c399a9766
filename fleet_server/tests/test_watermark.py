from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.ingest.watermark import ISLANDS_MAX, Watermark

SEQS = st.integers(1, 60)
ARRIVALS = st.lists(st.lists(SEQS, max_size=8), max_size=12)


def contiguous(stored: set[int], through: int = 0) -> int:
    while through + 1 in stored:
        through += 1
    return through


@given(ARRIVALS)
def test_in_any_order_with_gaps_and_repeats_the_mark_is_the_first_gap(arrivals: list[list[int]]) -> None:
    mark, stored = Watermark(), set[int]()
    for seqs in arrivals:
        before = mark.stored
        mark = mark.with_stored(seqs)
        stored.update(seqs)
        assert before <= mark.stored == contiguous(stored)
        covered = {seq for first, last in mark.islands for seq in range(first, last + 1)}
        assert covered == {seq for seq in stored if seq > mark.stored}
        assert all(a[1] + 1 < b[0] for a, b in zip(mark.islands, mark.islands[1:], strict=False))


@given(ARRIVALS, SEQS, ARRIVALS)
def test_after_a_restore_from_a_backup_the_mark_passes_what_can_never_come_and_counts_it(
    before: list[list[int]], first_seq: int, after: list[list[int]]
) -> None:
    mark, stored = Watermark(), set[int]()
    for seqs in before:
        mark = mark.with_stored(seqs)
        stored.update(seqs)
    old = mark.stored
    mark, lost = mark.with_first(first_seq)
    assert lost == len([seq for seq in range(old + 1, first_seq) if seq not in stored])
    given_up = set(range(1, first_seq))
    for seqs in after:
        mark = mark.with_stored(seqs)
        stored.update(seqs)
    assert mark.stored == max(old, contiguous(stored | given_up))


@given(st.permutations(range(1, 30)))
def test_when_everything_has_come_nothing_is_left_over(order: list[int]) -> None:
    assert Watermark().with_stored(order) == Watermark(29)


def test_a_terminal_that_sends_only_every_other_fact_fills_no_memory() -> None:
    mark = Watermark().with_stored(range(3, 10_000, 2))
    assert len(mark.islands) == ISLANDS_MAX
    assert not mark.complete
    assert mark.stored == 0


@pytest.mark.parametrize("seqs", [[1], [1, 2, 3], [3, 2, 1], [1, 1, 1]])
def test_the_usual_cases_read_as_one_expects(seqs: list[int]) -> None:
    assert Watermark().with_stored(seqs).stored == max(seqs)
