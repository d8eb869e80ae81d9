"""A little more while all is well, a share less when it is not: additive, multiplicative.

Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
computer networks" (1989): of the simple rules this is the one that ends up fair and efficient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import SizeLaw
from ninelives_grpc.laws.response import RunningCuts
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics


@policy
class AimdLaw(SizeLaw):
    """Raise a limit step by step while it is used, and cut it when calls fail or take too long.

    Cuts for latency end where calls do not become quicker by them.

    Args:
        increase: What is added when all is well.
        backoff: What is left, as a share, when it is not.
        errors: Share of failed calls above which it cuts.
        latency: Seconds of `p99` above which it cuts; None does not look at it.
    """

    increase: float = parameter(default=1.0, low=0.0, high=1e9, doc="Added when all is well.")
    backoff: float = parameter(
        default=0.9, low=0.01, high=1.0, unit="ratio", doc="What a cut leaves."
    )
    errors: float = parameter(
        default=0.05, low=0.0, high=1.0, unit="ratio", doc="Failed calls above which it cuts."
    )
    latency: float | None = parameter(
        default=None, low=0.0, high=3600.0, unit="seconds", doc="p99 above which it cuts."
    )

    def start(self) -> RunningAimd:
        """Return the running law."""
        return RunningAimd(self)


class RunningAimd(RunningCuts[AimdLaw]):
    """Keeps whether cuts make calls quicker."""

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Cut, raise or leave it."""
        settings, failed, p99 = self.settings, 1.0 - metrics.success_rate, metrics.p99
        if failed > settings.errors:
            self.reason = f"{failed:.1%} of the calls failed, more than {settings.errors:.1%}"
            return current * settings.backoff
        if settings.latency is not None and p99 is not None and p99 > settings.latency:
            self.reason = f"p99 is {p99:.3g} s, more than {settings.latency:.3g} s"
            return self._response.cut(current, metrics.p50 or p99, current * settings.backoff)
        if not settings.is_used(metrics):
            return None
        self.reason = "all is well, and what there is is used"
        return current + settings.increase
