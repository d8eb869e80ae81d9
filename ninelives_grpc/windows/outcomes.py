"""How many of the recent calls failed or were slow."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple


class Tally(NamedTuple):
    """Calls in a window, and how many of them failed or were slow."""

    calls: int
    failures: int
    slow: int


class CountWindow:
    """The last `size` calls that are not older than `age` seconds.

    Calls are added all the time, and counted when one has failed: so it holds up to a quarter more,
    and forgets many at once.
    """

    __slots__ = ("_calls", "_count", "_failures", "_most", "_slow", "age", "size")

    def __init__(self, size: int, age: float) -> None:
        self.resize(size, age)
        self._calls: deque[tuple[float, bool, bool]] = deque()
        self._count = 0
        self._failures = 0
        self._slow = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Take in one call."""
        calls = self._calls
        calls.append((now, failed, slow))
        self._count += 1
        if failed or slow:
            self._failures += failed
            self._slow += slow
        if self._count > self._most:
            self._expire(now)

    def tally(self, now: float) -> Tally:
        """Count what is in the window at this time."""
        self._expire(now)
        return Tally(self._count, self._failures, self._slow)

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._count = self._failures = self._slow = 0

    def resize(self, size: int, age: float) -> None:
        """Hold more or fewer from now on; what still fits stays."""
        self.size = size
        self._most = size + size // 4
        self.age = age

    def _expire(self, now: float) -> None:
        calls, oldest = self._calls, now - self.age
        while calls and (self._count > self.size or calls[0][0] < oldest):
            _, failed, slow = calls.popleft()
            self._count -= 1
            self._failures -= failed
            self._slow -= slow


class TimeWindow:
    """All calls of the last `age` seconds, in ten buckets: any number of calls in little memory."""

    __slots__ = ("_buckets", "age")
    BUCKETS = 10

    def __init__(self, size: int, age: float) -> None:
        self.age = age
        self._buckets: deque[list[float]] = deque()  # [start, calls, failures, slow]

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Take in one call."""
        buckets = self._buckets
        width = self.age / self.BUCKETS
        start = now - now % width
        if not buckets or buckets[-1][0] < start:
            buckets.append([start, 0, 0, 0])
            self._expire(now)
        bucket = buckets[-1]
        bucket[1] += 1
        bucket[2] += failed
        bucket[3] += slow

    def tally(self, now: float) -> Tally:
        """Count what is in the window at this time."""
        self._expire(now)
        sums = [int(sum(bucket[column] for bucket in self._buckets)) for column in (1, 2, 3)]
        return Tally(*sums)

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()

    def resize(self, size: int, age: float) -> None:
        """Look further or less far back from now on; what still fits stays."""
        self.age = age

    def _expire(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] <= now - self.age:
            self._buckets.popleft()


OutcomeWindow = CountWindow | TimeWindow


def wilson_lower_bound(hits: int, total: int, z: float) -> float:
    """Return the lower end of the Wilson score interval for a ratio seen in few samples.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Three
    failures of four are no proof that half of all calls fail; thirty of forty are.

    Args:
        hits: How many of them.
        total: Of how many.
        z: Standard deviations of confidence: 1.96 for 95 %, 0 for the plain ratio.
    """
    if not hits:
        # Not by the formula, whose rounding is above a threshold of 0.
        return 0.0
    ratio, squared = hits / total, z * z
    centre = ratio + squared / (2 * total)
    spread = z * math.sqrt((ratio * (1 - ratio) + squared / (4 * total)) / total)
    return (centre - spread) / (1 + squared / total)
