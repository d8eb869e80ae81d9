"""Let retries be paid for as generously as the backend does well.

Meant for `retry_budget/ratio`: what a success pays in. While nearly all is well, retries cost
little and hide the rest; when much fails they are load on a backend in trouble (Google's "Site
Reliability Engineering", 2016, chapter 22, bounds them for that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.health import share_of
from ninelives_grpc.laws.law import Law, RunningLaw, smoothed
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class RetryBudgetLaw(Law):
    """Set the ratio of a retry budget by the share of attempts that are answered well.

    Args:
        least: Ratio when the success rate is `bad` or worse.
        most: Ratio when it is `good` or better.
        bad: Success rate at which nothing is to be hoped for from another attempt.
        good: Success rate of a backend that does well.
        smoothing: Weight of a reading in the success rate that it goes by.
    """

    least: float = parameter(default=0.01, low=0.0, high=1.0, unit="tokens", doc="Ratio when bad.")
    most: float = parameter(default=0.2, low=0.0, high=1.0, unit="tokens", doc="Ratio when good.")
    bad: float = parameter(default=0.5, low=0.0, high=1.0, unit="ratio", doc="Success rate of ill.")
    good: float = parameter(
        default=0.99, low=0.0, high=1.0, unit="ratio", doc="Success rate of well."
    )
    smoothing: float = parameter(
        default=0.3, low=0.01, high=1.0, unit="ratio", doc="Weight of a reading."
    )

    def start(self) -> RunningRetryBudget:
        """Return the running law."""
        return RunningRetryBudget(self)


class RunningRetryBudget(RunningLaw[RetryBudgetLaw]):
    """Keeps the smoothed success rate."""

    def __init__(self, settings: RetryBudgetLaw) -> None:
        super().__init__(settings)
        self._rate: float | None = None

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Go where the success rate stands between bad and good."""
        settings = self.settings
        if not metrics.traffic.attempts:
            return None
        self._rate = smoothed(self._rate, metrics.traffic.backend_success_rate, settings.smoothing)
        share = share_of(self._rate, settings.bad, settings.good)
        self.reason = f"{self._rate:.1%} of the attempts are answered well"
        return settings.least + share * (settings.most - settings.least)

    def forget(self) -> None:
        """Forget the success rate."""
        self._rate = None

    def state(self) -> dict[str, Value]:
        """Return the success rate that it goes by."""
        return {"smoothed_success_rate": self._rate}
