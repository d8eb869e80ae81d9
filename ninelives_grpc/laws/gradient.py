"""Follow the ratio of what calls usually take to what they take now.

After Gradient2 of Netflix's concurrency-limits (2018): below 1 the ratio says that a queue grows.
There the usual latency drifts up under lasting overload, until overload is usual; here it follows
upwards by its own, much smaller weight.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import RunningLaw, SizeLaw, between, smoothed
from ninelives_grpc.parameters import parameter, policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class GradientLaw(SizeLaw):
    """Cut a limit by as much as calls have become slower than usual, and raise it by a queue.

    Args:
        tolerance: How many times the usual latency is still all right.
        queue: Calls that may wait beyond those in work, as a multiple of the limit's square root.
        smoothing: Share of the way that the limit goes at once.
        least: Smallest ratio by which it is cut at once.
        learning: Weight of a reading in what is usual, when calls were faster.
        drift: The same when they were slower.
    """

    tolerance: float = parameter(default=1.5, low=1.0, high=100.0, doc="Times the usual.")
    queue: float = parameter(default=1.0, low=0.0, high=100.0, doc="Calls that may wait.")
    smoothing: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="Share of the way to go at once."
    )
    least: float = parameter(
        default=0.5, low=0.01, high=1.0, unit="ratio", doc="Deepest cut at once."
    )
    learning: float = parameter(
        default=0.5, low=0.001, high=1.0, unit="ratio", doc="Weight of faster readings."
    )
    drift: float = parameter(
        default=0.002, low=0.0, high=1.0, unit="ratio", doc="Weight of slower readings."
    )

    def start(self) -> RunningGradient:
        """Return the running law."""
        return RunningGradient(self)


class RunningGradient(RunningLaw[GradientLaw]):
    """Keeps what calls usually take."""

    def __init__(self, settings: GradientLaw) -> None:
        super().__init__(settings)
        self._usual: float | None = None

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Go some of the way to where the ratio leads."""
        settings, now = self.settings, metrics.p50
        if now is None or now <= 0.0:
            return None
        faster = self._usual is None or now < self._usual
        self._usual = usual = smoothed(
            self._usual, now, settings.learning if faster else settings.drift
        )
        ratio = between(settings.tolerance * usual / now, settings.least, 1.0)
        wanted = current * ratio + settings.queue * math.sqrt(abs(current))
        new = current + settings.smoothing * (wanted - current)
        if new > current and not settings.is_used(metrics):
            return None
        self.reason = f"half of the calls take {now:.3g} s, and {usual:.3g} s is usual"
        return new

    def forget(self) -> None:
        """Keep what is usual: that is of the backend, and not of the moment."""

    def state(self) -> dict[str, Value]:
        """Return what is usual."""
        return {"usual_latency": self._usual}
