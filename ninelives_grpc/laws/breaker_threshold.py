"""Trust a healthy backend more and an ill one less, by the threshold of its breaker.

This is a positive feedback: errors make the breaker quicker to open, and an open breaker makes
errors. It is off unless it is turned on, and its own bounds are narrow. A breaker whose threshold
stands still and whose open time adapts (`OpenTimeLaw`) does better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import Law, RunningLaw, between
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics


@policy
class BreakerThresholdLaw(Law):
    """Raise the failure threshold of a breaker while hardly a call fails, lower it if many do.

    Args:
        healthy: Share of failed calls below which the threshold rises.
        ill: Share above which it falls.
        step: How far it goes at once.
        least: Lowest threshold.
        most: Highest threshold.
        enabled: Whether it may change anything; not unless said so.
    """

    healthy: float = parameter(
        default=0.01, low=0.0, high=1.0, unit="ratio", doc="Errors below which it rises."
    )
    ill: float = parameter(
        default=0.05, low=0.0, high=1.0, unit="ratio", doc="Errors above which it falls."
    )
    step: float = parameter(default=0.05, low=0.001, high=1.0, unit="ratio", doc="Step at once.")
    least: float = parameter(default=0.3, low=0.01, high=1.0, unit="ratio", doc="Lowest.")
    most: float = parameter(default=0.7, low=0.01, high=1.0, unit="ratio", doc="Highest.")
    enabled: bool = parameter(default=False, doc="Whether it may change anything.")

    def start(self) -> RunningBreakerThreshold:
        """Return the running law."""
        return RunningBreakerThreshold(self)

    def conflict(self) -> str:
        """Say which values do not go together."""
        for low, high in (("healthy", "ill"), ("least", "most")):
            below, above = getattr(self, low), getattr(self, high)
            if below > above:
                return f"{low} {below:g} must not be greater than {high} {above:g}"
        return super().conflict()


class RunningBreakerThreshold(RunningLaw[BreakerThresholdLaw]):
    """Keeps nothing: each reading is judged by itself."""

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Go a step up or down, or stay."""
        settings = self.settings
        if not metrics.answered:
            return None
        failed = 1.0 - metrics.success_rate
        self.reason = f"{failed:.1%} of {metrics.answered} calls failed"
        if failed > settings.ill:
            return between(current - settings.step, settings.least, settings.most)
        if failed < settings.healthy:
            return between(current + settings.step, settings.least, settings.most)
        return None
