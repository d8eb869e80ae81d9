"""Make a bulkhead as large as its slowest calls allow.

The p99 of each reading is compared with a target, and the size goes some of the way that leads to:
the size is what is smoothed, by an exponential mean. Percentiles themselves must not be, as their
mean is the percentile of nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import SizeLaw, between
from ninelives_grpc.laws.response import RunningCuts
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics


@policy
class BulkheadSizeLaw(SizeLaw):
    """Shrink a bulkhead while p99 is above the target, and grow it while it is below and used.

    It does not shrink further where calls do not become quicker by it.

    Args:
        target: Seconds of p99 that are wanted.
        tolerance: Share of the target by which p99 may be off before anything is done.
        smoothing: Share of the way that the size goes at once: the weight of a reading in it.
        least: Smallest ratio that the size is taken times at once.
        most: Greatest ratio.
    """

    target: float = parameter(
        low=1e-6, high=3600.0, unit="seconds", doc="p99 that is wanted.", kw_only=False
    )
    tolerance: float = parameter(
        default=0.1, low=0.0, high=1.0, unit="ratio", doc="How far p99 may be off."
    )
    smoothing: float = parameter(
        default=0.3, low=0.01, high=1.0, unit="ratio", doc="Weight of a reading in the size."
    )
    least: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="Smallest ratio at once."
    )
    most: float = parameter(
        default=1.25, low=1.0, high=10.0, unit="ratio", doc="Greatest ratio at once."
    )

    def start(self) -> RunningBulkheadSize:
        """Return the running law."""
        return RunningBulkheadSize(self)


class RunningBulkheadSize(RunningCuts[BulkheadSizeLaw]):
    """Keeps whether cuts make calls quicker; what is smoothed is the size itself."""

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Go some of the way to the size at which p99 would be as wanted."""
        settings, p99 = self.settings, metrics.p99
        if p99 is None or abs(p99 / settings.target - 1.0) <= settings.tolerance:
            return None
        # Calls of a clock that stands still take nothing at all.
        ratio = between(settings.target / max(p99, 1e-9), settings.least, settings.most)
        if ratio > 1.0 and not settings.is_used(metrics):
            return None
        self.reason = f"p99 is {p99:.3g} s, and {settings.target:.3g} s is wanted"
        wanted = current * (1.0 + settings.smoothing * (ratio - 1.0))
        if ratio < 1.0:
            return self._response.cut(current, metrics.p50 or p99, wanted)
        return wanted
