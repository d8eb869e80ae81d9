"""Follow the ratio of what calls usually take to what they take now.

After Gradient2 of Netflix's concurrency-limits (2018): below 1 the ratio says that a queue grows.
There the usual latency follows what is seen also under lasting overload, until overload is usual;
here slower calls become usual at once only while the limit is not used, and otherwise hardly.
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

    What is usual it learns from what it sees: a loop that begins in an overload takes that for
    usual until calls are faster. `BulkheadSizeLaw` needs to be told a target instead.

    Args:
        tolerance: How many times the usual latency is still all right.
        queue: Calls that may wait beyond those in work, as a multiple of the limit's square root.
        smoothing: Share of the way that the limit goes at once.
        least: Smallest ratio by which it is cut at once.
        learning: Weight of a reading in what is usual, when calls were faster or the limit was not
            used.
        drift: The same when they were slower and it was.
        still: Share of the limit that it may be off: it would go to and fro for less.
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
        default=0.5, low=0.001, high=1.0, unit="ratio", doc="Weight of readings without a queue."
    )
    drift: float = parameter(
        default=0.0005, low=0.0, high=1.0, unit="ratio", doc="Weight of slower readings."
    )
    still: float = parameter(
        default=0.1, low=0.0, high=1.0, unit="ratio", doc="How far the limit may be off."
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
        used = settings.is_used(metrics)
        unqueued = self._usual is None or now < self._usual or not used
        self._usual = usual = smoothed(
            self._usual, now, settings.learning if unqueued else settings.drift
        )
        ratio = between(settings.tolerance * usual / now, settings.least, 1.0)
        wanted = current * ratio + settings.queue * math.sqrt(abs(current))
        if abs(wanted - current) <= settings.still * abs(current) or (
            wanted > current and not used
        ):
            return None
        self.reason = f"half of the calls take {now:.3g} s, and {usual:.3g} s is usual"
        return current + settings.smoothing * (wanted - current)

    def forget(self) -> None:
        """Keep what is usual: that is of the backend, and not of the moment."""

    def state(self) -> dict[str, Value]:
        """Return what is usual."""
        return {"usual_latency": self._usual}
