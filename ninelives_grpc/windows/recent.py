"""The last so many samples, in order: any quantile of them, exactly."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class RecentSamples:
    """Keeps samples as they came, and sorted; the caller holds a lock."""

    __slots__ = ("_came", "_sorted")

    def __init__(self) -> None:
        self._came: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, sample: float, size: int) -> None:
        """Take in a sample, and forget the oldest beyond `size`."""
        self._came.append(sample)
        insort(self._sorted, sample)
        while len(self._came) > size:
            del self._sorted[bisect_left(self._sorted, self._came.popleft())]

    def quantile(self, ratio: float) -> float:
        """Return the sample that the given ratio of samples does not exceed; there must be one."""
        rank = max(1, math.ceil(ratio * len(self._sorted)))
        return self._sorted[rank - 1]

    def __len__(self) -> int:
        """Return how many samples are kept."""
        return len(self._came)
