"""Keep a circuit open for as long as it takes the backend to come back, as far as that is known.

Too short, and probes are wasted on a backend that is down; too long, and good traffic is lost after
it is up. How long it was down is smoothed as TCP smooths round trips (Jacobson, "Congestion
avoidance and control", 1988): the mean, and how far readings are from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import Law, RunningLaw
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class OpenTimeLaw(Law):
    """Set the first open time of a breaker to a share of how long its backend is usually down.

    The breaker doubles the time with each opening, so that a share of a half takes two probes.

    Args:
        share: Share of the usual time down after which the first probe goes.
        deviations: Mean deviations that are taken off the usual time first: who comes back now
            early and now late is asked early.
        weight: Weight of a recovery in the usual time.
        deviation_weight: Weight of a recovery in the mean deviation.
        shortest: Seconds that it is open at least.
    """

    share: float = parameter(
        default=0.5, low=0.01, high=10.0, unit="ratio", doc="Share of the usual time down."
    )
    deviations: float = parameter(default=0.5, low=0.0, high=10.0, doc="Deviations to take off.")
    weight: float = parameter(
        default=0.25, low=0.01, high=1.0, unit="ratio", doc="Weight of a recovery in the mean."
    )
    deviation_weight: float = parameter(
        default=0.25, low=0.01, high=1.0, unit="ratio", doc="Weight in the mean deviation."
    )
    shortest: float = parameter(
        default=0.1, low=0.001, high=3600.0, unit="seconds", doc="Shortest open time."
    )

    def start(self) -> RunningOpenTime:
        """Return the running law."""
        return RunningOpenTime(self)


class RunningOpenTime(RunningLaw[OpenTimeLaw]):
    """Keeps the usual time down, and its mean deviation."""

    # Recoveries are rare, and as good as they were however long ago the last call is.
    learns_from_calls = False

    def __init__(self, settings: OpenTimeLaw) -> None:
        super().__init__(settings)
        self._usual: float | None = None
        self._deviation = 0.0
        self._seen = 0

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Learn from the circuits that have closed."""
        settings = self.settings
        for seconds in metrics.recoveries:
            self._learn(seconds)
        if not metrics.recoveries or self._usual is None:
            return None
        usual = max(0.0, self._usual - settings.deviations * self._deviation)
        self.reason = (
            f"backends were down for {self._usual:.3g} s, give or take {self._deviation:.2g} s, "
            f"over {self._seen} recoveries"
        )
        return max(settings.share * usual, settings.shortest)

    def _learn(self, seconds: float) -> None:
        settings = self.settings
        self._seen += 1
        if self._usual is None:
            self._usual = seconds
            return
        off = seconds - self._usual
        self._deviation += settings.deviation_weight * (abs(off) - self._deviation)
        self._usual += settings.weight * off

    def state(self) -> dict[str, Value]:
        """Return what is usual."""
        return {
            "usual_time_down": self._usual,
            "deviation": self._deviation,
            "recoveries": self._seen,
        }
