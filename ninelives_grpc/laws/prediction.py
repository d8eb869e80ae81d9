"""Act on where load and latency are heading, before they get there.

The calls that would run at once, and what half of the calls take, are foretold by `Holt`.
What is needed then is made now; and if calls would then take too long, less is let in now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.holt import Holt
from ninelives_grpc.laws.law import RunningLaw, SizeLaw, between
from ninelives_grpc.laws.pid import Measure, measured
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class PredictionLaw(SizeLaw):
    """Size a limit for the load that is foretold, and cut it if calls will take too long by then.

    The value is `headroom` times the load that is foretold: the calls that would run at once for a
    bulkhead, or with `load="calls_per_second"` those that come, for a rate. It grows at once and
    shrinks by `release`. While latency is foretold to be above `latency`, it is cut in proportion
    instead.

    Args:
        horizon: Seconds to look ahead: as long as it takes until more, or less, has an effect.
        load: What is foretold of load: `offered` (default), `concurrency`, `calls_per_second`, or
            the loop's own `gauge`.
        headroom: Value for each unit of the load that is foretold.
        latency: Seconds that half of the calls may take; None does not look at it.
        cut: What is left by one cut at least.
        release: Share of what is not needed that is given up at once.
        smoothing: Weight of a reading in the level of load and latency.
        trend: Weight of a move in their trend.
        damping: Share of a trend that is left after the horizon; 1 takes it for a straight line.
        error_smoothing: Weight of a forecast in the mean errors that are published.
    """

    horizon: float = parameter(
        default=10.0, low=0.01, high=3600.0, unit="seconds", doc="Time to look ahead."
    )
    load: Measure = parameter(default=Measure.OFFERED, doc="What is foretold of load.")
    headroom: float = parameter(
        default=2.0, low=0.01, high=1000.0, unit="ratio", doc="Value for a unit of load."
    )
    latency: float | None = parameter(
        default=None, low=1e-6, high=3600.0, unit="seconds", doc="What half of the calls may take."
    )
    cut: float = parameter(
        default=0.7, low=0.01, high=1.0, unit="ratio", doc="What one cut leaves."
    )
    release: float = parameter(
        default=0.1, low=0.0, high=1.0, unit="ratio", doc="Share to give up at once."
    )
    smoothing: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="Weight of a reading in the level."
    )
    trend: float = parameter(
        default=0.3, low=0.0, high=1.0, unit="ratio", doc="Weight of a move in the trend."
    )
    damping: float = parameter(
        default=0.8, low=0.0, high=1.0, unit="ratio", doc="Share of a trend that lasts."
    )
    error_smoothing: float = parameter(
        default=0.1, low=0.001, high=1.0, unit="ratio", doc="Weight of a forecast in its errors."
    )

    @property
    def needs_gauge(self) -> bool:
        """Whether it goes by the loop's own gauge."""
        return self.load is Measure.GAUGE

    def start(self) -> RunningPrediction:
        """Return the running law."""
        return RunningPrediction(self)


class RunningPrediction(RunningLaw[PredictionLaw]):
    """Keeps the two series.

    Attributes:
        load: What runs at once, or comes in a second.
        latency: What half of the calls take.
    """

    def __init__(self, settings: PredictionLaw) -> None:
        super().__init__(settings)
        self.load = Holt()
        self.latency = Holt()
        self._measure = settings.load

    @property
    def forecasts(self) -> dict[str, Holt]:
        """Both series, by what they are of."""
        return {"load": self.load, "latency": self.latency}

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Look ahead, and act on what is seen there."""
        settings, now = self.settings, metrics.at
        if settings.load is not self._measure:
            self._measure, self.load = settings.load, Holt()
        latency = self._look(self.latency, metrics.p50, now)
        load = self._look(self.load, measured(settings.load, metrics), now)
        longest = settings.latency
        if longest is not None and latency is not None and latency > longest:
            self.reason = (
                f"half of the calls will take {latency:.3g} s{_give_or_take(self.latency)} in "
                f"{settings.horizon:g} s, more than {longest:.3g} s"
            )
            return current * between(longest / latency, settings.cut, 1.0)
        if load is None:
            return None
        needed = settings.headroom * load
        off = _give_or_take(self.load)
        self.reason = f"{settings.load} will be {load:.3g}{off} in {settings.horizon:g} s"
        if needed < current:
            return current + settings.release * (needed - current)
        return needed if settings.is_used(metrics) else None

    def _look(self, series: Holt, value: float | None, now: float) -> float | None:
        if value is None:
            return None
        settings = self.settings
        series.add(
            now,
            value,
            level=settings.smoothing,
            trend=settings.trend,
            error=settings.error_smoothing,
        )
        return series.foretell(settings.horizon, settings.damping)

    def forget(self) -> None:
        """Begin both series anew."""
        self.load.restart()
        self.latency.restart()

    def state(self) -> dict[str, Value]:
        """Return what is foretold, and how wrong forecasts were so far."""
        state: dict[str, Value] = {}
        for name, series in self.forecasts.items():
            state |= {
                f"{name}_forecast": series.forecast,
                f"{name}_trend": series.trend,
                f"{name}_mean_error": series.mean_error,
                f"{name}_bias": series.bias,
                f"{name}_naive_error": series.naive_error,
            }
        return state


def _give_or_take(series: Holt) -> str:
    """Say how far forecasts were off so far, once that is known."""
    off = series.mean_error
    return "" if off is None else f", give or take {off:.2g},"
