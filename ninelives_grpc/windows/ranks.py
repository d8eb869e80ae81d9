"""The ranks of the latest calls, to tell which share of them comes before another one."""

from __future__ import annotations

from collections import deque

_BLOCK = 100
"""Ranks that are also counted together, so that not all of them have to be added up."""


class RecentRanks:
    """Counts of the last ranks, as numbers from 0; the caller holds a lock."""

    __slots__ = ("_blocks", "_counts", "_ranks", "_recent")

    def __init__(self, ranks: int, size: int = 256) -> None:
        """Keep `size` of them."""
        self._ranks = ranks
        self._counts: list[int] = []
        self._blocks: list[int] = []
        self._recent: deque[int] = deque(maxlen=size)

    def add(self, number: int) -> None:
        """Note another one; the oldest is forgotten."""
        recent, counts, blocks = self._recent, self._counts, self._blocks
        if not counts:
            # Most bulkheads never look at a rank.
            counts.extend([0] * self._ranks)
            blocks.extend([0] * (self._ranks // _BLOCK + 1))
        if len(recent) == recent.maxlen:
            oldest = recent[0]
            counts[oldest] -= 1
            blocks[oldest // _BLOCK] -= 1
        recent.append(number)
        counts[number] += 1
        blocks[number // _BLOCK] += 1

    def share_before(self, number: int) -> float:
        """Return the share of the calls that come before one of this rank, 0..1."""
        if not self._recent:
            return 0.0
        block = number // _BLOCK
        before = sum(self._blocks[:block]) + sum(self._counts[block * _BLOCK : number])
        return before / len(self._recent)

    def share_at(self, number: int) -> float:
        """Return the share of the calls that have this rank, 0..1."""
        return self._counts[number] / len(self._recent) if self._recent else 0.0
