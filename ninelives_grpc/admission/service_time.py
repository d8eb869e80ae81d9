"""How long calls take lately, and how far from that they mostly are."""

from __future__ import annotations


class ServiceTime:
    """Running mean and mean deviation; the caller holds a lock.

    Attributes:
        mean: Seconds; 0 before the first call.
        deviation: Mean of the distances from the mean, in seconds.
    """

    __slots__ = ("_calls", "deviation", "mean")

    def __init__(self) -> None:
        self._calls = 0
        self.mean = 0.0
        self.deviation = 0.0

    def add(self, seconds: float, weight: float) -> None:
        """Learn from another call.

        Args:
            seconds: What it took.
            weight: Share of the way to it that mean and deviation go, 0..1. The first calls count
                for more, as one alone says nothing of the next.
        """
        self._calls += 1
        share = max(weight, 1.0 / self._calls)
        off = seconds - self.mean
        self.mean += share * off
        self.deviation += share * (abs(off) - self.deviation)
