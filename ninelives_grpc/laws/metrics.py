"""What a law goes by: the calls since it was last asked, and how full the stack is, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_grpc.observer.traffic import Traffic

Gauge = Callable[[], float | None]
"""What a loop reads besides the calls of its stack; None when it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How full a bulkhead, an admission queue or a concurrency limit is.

    Attributes:
        in_flight: Calls that run.
        limit: Calls that may run at once.
        queued: Calls that wait for a place.
    """

    in_flight: int
    limit: int
    queued: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What is known of a stack when a law is asked.

    Attributes:
        at: The time, on the stack's clock.
        age: Seconds since the last call ended, or since the loop began if none has.
        traffic: The calls that it is about.
        mean: Seconds that a call took on average, refusals apart, or None.
        refused_by: Calls that were refused, by the name of the policy; never more than a reading.
        levels: How full gates are that limit how many calls run at once, by name.
        budget_left: Extra attempts that the stack's budget could pay for now, or None.
        used: Share in use of what the parameter limits, 0..1, or None if it limits no number of
            calls.
        recoveries: Seconds that backends were down, one for each circuit that has closed since.
        gauge: What the loop's own gauge says, or None if it has none.
    """

    at: float
    age: float
    traffic: Traffic
    mean: float | None = None
    refused_by: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    budget_left: float | None = None
    used: float | None = None
    recoveries: tuple[float, ...] = ()
    gauge: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds in which these calls ended."""
        return self.traffic.seconds

    @property
    def calls(self) -> int:
        """Calls that ended."""
        return self.traffic.calls

    @property
    def calls_per_second(self) -> float:
        """Calls that ended in a second, on average."""
        return self.traffic.calls_per_second

    @property
    def answered(self) -> int:
        """Calls that no policy of ours refused and nobody gave up: those that tell of health."""
        return self.traffic.successes + self.traffic.failures

    @property
    def success_rate(self) -> float:
        """Share of those that succeeded, 0..1; 1 when there were none."""
        return self.traffic.successes / self.answered if self.answered else 1.0

    @property
    def p50(self) -> float | None:
        """Seconds that half of the calls did not exceed."""
        return self.traffic.p50

    @property
    def p99(self) -> float | None:
        """Seconds that 99 % of the calls did not exceed."""
        return self.traffic.p99

    @property
    def concurrency(self) -> float:
        """Calls that ran at once on average: calls a second, times how long one takes (Little)."""
        ran = self.calls - self.traffic.refusals
        return ran * (self.mean or 0.0) / self.traffic.seconds

    @property
    def offered(self) -> float:
        """Calls that would have run at once, had none been refused."""
        ran = self.calls - self.traffic.refusals
        return self.concurrency * self.calls / ran if ran else 0.0

    def __str__(self) -> str:
        """Say in short what it is about, for the reason of a change."""
        p99 = "" if self.p99 is None else f", p99 {self.p99:.3g} s"
        return (
            f"{self.calls} calls in {self.seconds:.3g} s, {self.success_rate:.1%} of "
            f"{self.answered} answered well{p99}"
        )
