"""What came of a simulation, and how to measure it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ninelives_grpc.simulation.marks import Measure

if TYPE_CHECKING:
    from array import array

    from ninelives_grpc.simulation.marks import Mark
    from ninelives_grpc.simulation.scenario import Scenario
    from ninelives_grpc.simulation.tally import Counts, Sample

_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Calls of some seconds; every call that ended is one of the last four.

    Attributes:
        offered: Made.
        good: Answered within their deadline.
        late: Answered after it, or given up at it.
        refused: Refused by a policy.
        failed: Ended by an error of the server.
    """

    offered: int
    good: int
    late: int
    refused: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long answers took, in seconds, or 0 when there was none.

    Attributes:
        mean: On average.
        p50: Half of them less than this.
        p99: All but one in a hundred less than this.
        most: The longest.
    """

    mean: float
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A simulation that is over.

    Attributes:
        scenario: What was simulated.
        samples: How it stood, ten times a second and whenever a phase began; the last one is from
            when every call had ended.
        capacities: From when on the server could do so many calls a second, in order of time.
        latencies: Seconds of each call that was answered, in the order of their ends.
    """

    scenario: Scenario
    samples: tuple[Sample, ...]
    capacities: tuple[tuple[float, float], ...]
    latencies: array[float]

    def totals(
        self, begin: float = 0.0, end: float | None = None, caller: str | None = None
    ) -> Totals:
        """Return the calls of some seconds, of all kinds or of one.

        Args:
            begin: Seconds, rounded up to the next sample.
            end: Likewise; None goes on until the last call has ended.
            caller: Name of the kind.
        """
        first = self._sample(begin).counts
        last = (self.samples[-1] if end is None else self._sample(end)).counts
        names = [each.label for each in self.scenario.callers]
        chosen = [n for n, name in enumerate(names) if caller in {None, name}]
        sums = [
            sum(after[n] - before[n] for n in chosen)
            for before, after in zip(first, last, strict=True)
        ]
        return Totals(offered=sums[0], good=sums[1], late=sums[2], refused=sums[3], failed=sums[4])

    def ideal(self, begin: float, end: float) -> float:
        """Return the calls that could have been answered: min(offered, capacity).

        That is added up over phases, and over the times in them when the capacity was another.
        """
        ends = self.scenario.ends
        changes = sorted({begin, end, *ends, *(at for at, _ in self.capacities)})
        ideal = 0.0
        for first, last in pairwise(at for at in changes if begin <= at <= end):
            capacity = [each for at, each in self.capacities if at <= first + _SAME][-1]
            ideal += min(self.totals(first, last).offered, capacity * (last - first))
        return ideal

    def goodput(self, begin: float = 0.0, end: float | None = None) -> float:
        """Return the answers in time of some seconds, as a share of what was possible."""
        stop = self.scenario.seconds if end is None else end
        ideal = self.ideal(begin, stop)
        return self.totals(begin, stop).good / ideal if ideal else 1.0

    def amplification(self, begin: float = 0.0, end: float | None = None) -> float:
        """Return the attempts that came to the server, as a multiple of the calls made."""
        last = self.samples[-1] if end is None else self._sample(end)
        attempts = last.attempts - self._sample(begin).attempts
        offered = self.totals(begin, end).offered
        return attempts / offered if offered else 1.0

    def measure(self, mark: Mark) -> float:
        """Return what a mark is about."""
        begin, end = self.scenario.window(mark)
        if mark.of is Measure.GOODPUT:
            return self.goodput(begin, end)
        if mark.of is Measure.AMPLIFICATION:
            return self.amplification(begin, end)
        totals = self.totals(begin, end, mark.caller)
        part = totals.good if mark.of is Measure.SERVED else totals.refused
        return part / totals.offered if totals.offered else 0.0

    def latency(self, begin: float = 0.0, end: float | None = None) -> Latency:
        """Return how long the answers of some seconds took."""
        last = self.samples[-1] if end is None else self._sample(end)
        return latency_of(self.latencies[self._sample(begin).answers : last.answers])

    def _sample(self, at: float) -> Sample:
        """Return the first sample from a time on, or the one at the end of the last phase."""
        index = bisect_left(self.samples, at - _SAME, key=lambda sample: sample.at)
        return self.samples[min(index, len(self.samples) - 1)]


def latency_of(values: array[float]) -> Latency:
    """Return what is to be said of some latencies."""
    ordered = sorted(values)
    if not ordered:
        return Latency(mean=0.0, p50=0.0, p99=0.0, most=0.0)
    return Latency(
        mean=sum(ordered) / len(ordered),
        p50=ordered[len(ordered) // 2],
        p99=ordered[int(len(ordered) * 0.99)],
        most=ordered[-1],
    )


def ended(counts: Counts) -> int:
    """Return how many calls have ended."""
    return sum(counts.good) + sum(counts.late) + sum(counts.refused) + sum(counts.failed)
