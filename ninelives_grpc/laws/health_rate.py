"""Send a backend as much as it answers well: down at once, up again step by step.

A rate of which a share is answered well is too high by the rest, whatever the backend can do: so
the rate is taken times its health, and ends up where all of it is answered. Upwards nothing is
known, and it is tried in steps that are added, as by AIMD (Chiu and Jain, 1989).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.health import score_of
from ninelives_grpc.laws.law import RunningLaw, SizeLaw
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class HealthRateLaw(SizeLaw):
    """Lower a rate to the share that a backend answers well, and raise it again while it is well.

    Health is the share of good answers, less by as much as they take too long.

    Args:
        full: The value when all is well.
        least: Share of it that is let through whatever happens, to see whether it is better.
        good: Health from which on the rate rises.
        latency: Seconds of `p99` that a healthy backend does not exceed; None does not look at it.
        deepest: Share that one fall leaves at least.
        recovery: Share of `full` by which it rises in a second.
    """

    full: float = parameter(low=1e-6, high=1e9, doc="Value when all is well.", kw_only=False)
    least: float = parameter(
        default=0.05, low=0.001, high=1.0, unit="ratio", doc="Share let through in any case."
    )
    good: float = parameter(
        default=0.98, low=0.0, high=1.0, unit="ratio", doc="Health from which it rises."
    )
    latency: float | None = parameter(
        default=None, low=1e-6, high=3600.0, unit="seconds", doc="p99 of a healthy backend."
    )
    deepest: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="What one fall leaves."
    )
    recovery: float = parameter(
        default=0.02, low=0.0, high=10.0, unit="per second", doc="Share of full to rise by."
    )

    def start(self) -> RunningHealthRate:
        """Return the running law."""
        return RunningHealthRate(self)


class RunningHealthRate(RunningLaw[HealthRateLaw]):
    """Keeps the last score, and when it was found."""

    def __init__(self, settings: HealthRateLaw) -> None:
        super().__init__(settings)
        self._score: float | None = None
        self._at: float | None = None

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Fall to what is answered well, or rise towards all."""
        settings, last, self._at = self.settings, self._at, metrics.at
        # Who let nothing through can not know, and has to try a little more.
        score = 1.0
        if metrics.answered:
            score = score_of(metrics.success_rate, metrics.p99, settings.latency)
        self._score = score
        self.reason = f"health is {score:.2f}"
        if score < settings.good:
            kept = max(score, settings.deepest)
            return max(current * kept, settings.least * settings.full)
        if current >= settings.full:
            return settings.full
        if not settings.is_used(metrics):
            return None
        seconds = metrics.seconds if last is None else metrics.at - last
        step = settings.recovery * settings.full * seconds
        return min(current + step, settings.full)

    def forget(self) -> None:
        """Forget the score, and when that was."""
        self._score = self._at = None

    def state(self) -> dict[str, Value]:
        """Return the last score."""
        return {"health": self._score}
