"""Hold a measure at its setpoint: in proportion to the error, to its sum, and to its trend.

Åström and Hägglund, "PID Controllers: Theory, Design, and Tuning" (1995), chapter 3, in the
velocity form: each answer is the value that holds, plus differences. So nothing winds up while the
value is at a bound or somebody else has it, and neither a new setpoint nor new gains make it jump.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import RunningLaw, SizeLaw
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


class Measure(StrEnum):
    """What is held."""

    P50 = "p50"
    P99 = "p99"
    MEAN = "mean"
    ERROR_RATE = "error_rate"
    CALLS_PER_SECOND = "calls_per_second"
    CONCURRENCY = "concurrency"
    """Calls that run at once, on average."""
    OFFERED = "offered"
    """Calls that would run at once, were none refused."""
    GAUGE = "gauge"
    """What the loop's own gauge says."""


@policy
class PidLaw(SizeLaw):
    """Hold a measure at its setpoint; gains are for an error as large as the setpoint.

    It does all it can for that: where no value reaches the setpoint, it ends at `low` or `high`.

    Args:
        setpoint: Where the measure is to be.
        measure: What is held: `p50`, `p99` (default), `mean`, `error_rate`, `calls_per_second`,
            `concurrency`, `offered`, or the loop's own `gauge`.
        proportional: How far the value goes with the measure, in the parameter's unit; negative
            where a greater value makes the measure less.
        integral: How far it goes in a second of error.
        tolerance: Share of the setpoint by which the measure may be off for good: a whole number
            can not always come nearer, and would go to and fro.
        derivative: How far it goes for a change of the measure that becomes faster by one setpoint
            a second.
    """

    setpoint: float = parameter(low=1e-6, high=1e9, doc="Where it is to be.", kw_only=False)
    measure: Measure = parameter(default=Measure.P99, doc="What is held at the setpoint.")
    proportional: float = parameter(
        default=1.0, low=-1e9, high=1e9, doc="Gain on changes of the measure."
    )
    integral: float = parameter(
        default=0.2, low=-1e9, high=1e9, unit="per second", doc="Gain on the error that lasts."
    )
    tolerance: float = parameter(
        default=0.05, low=0.0, high=1.0, unit="ratio", doc="How far the measure may be off."
    )
    derivative: float = parameter(
        default=0.0, low=-1e9, high=1e9, unit="seconds", doc="Gain on the trend of the measure."
    )

    @property
    def needs_gauge(self) -> bool:
        """Whether it goes by the loop's own gauge."""
        return self.measure is Measure.GAUGE

    def start(self) -> RunningPid:
        """Return the running law."""
        return RunningPid(self)


class RunningPid(RunningLaw[PidLaw]):
    """Keeps the last two measures."""

    def __init__(self, settings: PidLaw) -> None:
        super().__init__(settings)
        self._at = 0.0
        self._last: float | None = None
        self._slope: float | None = None
        self._measure: Measure | None = None

    @property
    def learns_from_calls(self) -> bool:  # type: ignore[override]
        """Whether it holds something of calls, and not a gauge."""
        return self.settings.measure is not Measure.GAUGE

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Go by the changes of the measure since the last time, and by the error."""
        settings = self.settings
        found = measured(settings.measure, metrics)
        if found is None:
            return None
        measure, error = found / settings.setpoint, 1.0 - found / settings.setpoint
        seconds, moved = metrics.at - self._at, 0.0
        if self._measure is settings.measure and self._last is not None and seconds > 0.0:
            slope = (found - self._last) / settings.setpoint / seconds
            moved -= settings.proportional * (found - self._last) / settings.setpoint
            if self._slope is not None:
                moved -= settings.derivative * (slope - self._slope)
            self._slope = slope
            if abs(error) > settings.tolerance:
                moved += settings.integral * error * seconds
        self._at, self._last, self._measure = metrics.at, found, settings.measure
        if moved > 0.0 and self.learns_from_calls and not settings.is_used(metrics):
            return None
        self.reason = f"{settings.measure} is {found:.3g}, {measure:.0%} of {settings.setpoint:.3g}"
        return current + moved if moved else None

    def forget(self) -> None:
        """Take the next measure for the first."""
        self._last = self._slope = None

    def state(self) -> dict[str, Value]:
        """Return what was measured."""
        return {"measured": self._last}


_MEASURES: Mapping[Measure, Callable[[Metrics], float | None]] = {
    Measure.P50: lambda metrics: metrics.p50,
    Measure.P99: lambda metrics: metrics.p99,
    Measure.MEAN: lambda metrics: metrics.mean,
    Measure.ERROR_RATE: lambda metrics: 1.0 - metrics.success_rate,
    Measure.CALLS_PER_SECOND: lambda metrics: metrics.calls_per_second,
    Measure.CONCURRENCY: lambda metrics: metrics.concurrency,
    Measure.OFFERED: lambda metrics: metrics.offered,
    Measure.GAUGE: lambda metrics: metrics.gauge,
}


def measured(measure: Measure, metrics: Metrics) -> float | None:
    """Return a measure, or None if it is not known."""
    return _MEASURES[measure](metrics)
