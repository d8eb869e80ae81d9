"""The ranks of the latest calls, to tell which share of them comes before another one."""

from __future__ import annotations

from collections import deque


class RecentRanks:
    """Counts of the last ranks, as numbers from 0; the caller holds a lock."""

    __slots__ = ("_counts", "_ranks", "_recent")

    def __init__(self, ranks: int, size: int = 256) -> None:
        """Keep `size` of them."""
        self._ranks = ranks
        self._counts: list[int] = []
        self._recent: deque[int] = deque(maxlen=size)

    def add(self, number: int) -> None:
        """Note another one; the oldest is forgotten."""
        recent, counts = self._recent, self._counts
        if not counts:
            # Most bulkheads never look at a rank.
            counts.extend([0] * self._ranks)
        if len(recent) == recent.maxlen:
            counts[recent[0]] -= 1
        recent.append(number)
        counts[number] += 1

    def share_before(self, number: int) -> float:
        """Return the share of the calls that come before one of this rank, 0..1."""
        return sum(self._counts[:number]) / len(self._recent) if self._recent else 0.0

    def share_at(self, number: int) -> float:
        """Return the share of the calls that have this rank, 0..1."""
        return self._counts[number] / len(self._recent) if self._recent else 0.0
