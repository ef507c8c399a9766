"""How far a journal is stored without a gap. Facts may come late, twice and out of order; the watermark only rises."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ISLANDS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Watermark:
    """`stored`: every fact up to it is stored or can never come. `islands`: what is stored beyond the first gap, as
    ranges (first, last), ascending and apart. `complete` is False when there are more islands than are kept here: then
    the rest must be read from the table again once `stored` reaches the last one that is kept."""

    stored: int = 0
    islands: tuple[tuple[int, int], ...] = ()
    complete: bool = True

    def with_stored(self, seqs: Iterable[int]) -> Watermark:
        """The watermark once `seqs` (any order, repeats allowed) are stored too."""
        stored = self.stored
        islands: list[tuple[int, int]] | None = None
        for seq in seqs:
            if seq <= stored:
                continue
            if islands is None:
                if seq == stored + 1 and not self.islands:
                    stored = seq
                    continue
                islands = list(self.islands)
            _insert(islands, seq)
            while islands and islands[0][0] <= stored + 1:
                stored = max(stored, islands.pop(0)[1])
        if islands is None:
            return self if stored == self.stored else Watermark(stored, self.islands, self.complete)
        return Watermark(stored, tuple(islands[:ISLANDS_MAX]), self.complete and len(islands) <= ISLANDS_MAX)

    def with_first(self, first_seq: int) -> tuple[Watermark, int]:
        """The watermark once the terminal has nothing below `first_seq` any more, and how many facts are lost by that.

        That happens only when the fleet's database was restored from a backup older than what the terminal keeps.
        """
        if first_seq <= self.stored + 1:
            return self, 0
        held = sum(max(0, min(last, first_seq - 1) - first + 1) for first, last in self.islands if first < first_seq)
        lost = first_seq - 1 - self.stored - held
        stored = first_seq - 1
        islands = list(self.islands)
        while islands and islands[0][0] <= stored + 1:
            stored = max(stored, islands.pop(0)[1])
        return Watermark(stored, tuple(islands), self.complete), lost


def _insert(islands: list[tuple[int, int]], seq: int) -> None:
    """Add `seq` to ascending, disjoint ranges, joining the ones that it touches."""
    at = bisect_left(islands, (seq, seq))
    first = last = seq
    if at < len(islands) and islands[at][0] <= seq + 1:
        last = max(last, islands.pop(at)[1])
    if at > 0 and islands[at - 1][1] >= seq - 1:
        if islands[at - 1][1] >= seq:
            last = max(last, islands[at - 1][1])
        first = islands.pop(at - 1)[0]
        at -= 1
    islands.insert(at, (first, last))
