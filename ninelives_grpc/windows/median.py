"""The median of a stream of numbers, in two numbers."""

from __future__ import annotations


class StreamingMedian:
    """Follow the median by small steps towards each sample.

    After Ma, Muthukrishnan and Sandler, "Frugal Streaming for Estimating Quantiles" (2013), with
    steps of a share of the estimate, as durations span decades.

    Attributes:
        value: The estimate.
        count: Samples seen.
    """

    __slots__ = ("count", "value")
    STEP = 1.05

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, sample: float) -> None:
        """Take in one sample."""
        self.count += 1
        if self.count == 1 or self.value <= 0:
            self.value = sample
        elif sample > self.value:
            self.value = min(sample, self.value * self.STEP)
        elif sample < self.value:
            self.value = max(sample, self.value / self.STEP)
