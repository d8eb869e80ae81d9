"""Do less under pressure, at once, and more again bit by bit.

The pressure is a share, 0..1, that a gauge of the loop reads: memory in use, of the CPU, of a
queue. Between the marks for cutting and for rising nothing is done, so that it does not flutter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import Law, RunningLaw
from ninelives_grpc.parameters import parameter, policy
from ninelives_grpc.shares.governor import Condition

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value


@policy
class GovernorLaw(Law):
    """Set a value to the share of `full` that the pressure of a gauge allows.

    Args:
        full: The value without pressure.
        degraded: Pressure at which the share is cut.
        critical: Pressure at which it is cut again.
        relaxed: Pressure below which it rises.
        cut: What is left of the share by passing one of the two.
        cut_interval: Seconds between two such cuts at least.
        still: What is left when the pressure is too high after `patience`.
        patience: Seconds to wait for a cut to work.
        rise: How much of the whole the share rises in a second.
        least: Share that is left in any case.
    """

    full: float = parameter(low=1e-6, high=1e9, doc="Value without pressure.", kw_only=False)
    degraded: float = parameter(
        default=0.7, low=0.0, high=1.0, unit="ratio", doc="Pressure that cuts."
    )
    critical: float = parameter(
        default=0.9, low=0.0, high=1.0, unit="ratio", doc="Pressure that cuts again."
    )
    relaxed: float = parameter(
        default=0.65, low=0.0, high=1.0, unit="ratio", doc="Pressure below which it rises."
    )
    cut: float = parameter(default=0.5, low=0.01, high=1.0, unit="ratio", doc="What a cut leaves.")
    cut_interval: float = parameter(
        default=1.0, low=0.0, high=600.0, unit="seconds", doc="Time between two cuts."
    )
    still: float = parameter(
        default=0.8, low=0.01, high=1.0, unit="ratio", doc="What the next cuts leave."
    )
    patience: float = parameter(
        default=5.0, low=0.0, high=600.0, unit="seconds", doc="Time for a cut to work."
    )
    rise: float = parameter(
        default=0.05, low=0.0, high=10.0, unit="per second", doc="How fast it rises."
    )
    least: float = parameter(
        default=0.05, low=0.001, high=1.0, unit="ratio", doc="Share left in any case."
    )
    interval: float = parameter(
        default=1.0, low=0.01, high=3600.0, unit="seconds", doc="Time between two looks."
    )

    @property
    def needs_gauge(self) -> bool:
        """Whether it goes by the loop's own gauge."""
        return True

    def start(self) -> RunningGovernor:
        """Return the running law."""
        return RunningGovernor(self)

    def conflict(self) -> str:
        """Say which marks are not in order."""
        if not self.relaxed <= self.degraded <= self.critical:
            return (
                f"relaxed {self.relaxed:g}, degraded {self.degraded:g} and critical "
                f"{self.critical:g} must be in that order"
            )
        return super().conflict()


class RunningGovernor(RunningLaw[GovernorLaw]):
    """Keeps the share, and when it was cut."""

    learns_from_calls = False

    def __init__(self, settings: GovernorLaw) -> None:
        super().__init__(settings)
        self._pressure: float | None = None
        self._share = 1.0
        self._at: float | None = None
        self._cut_at = -float("inf")
        self._stage = 0

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Cut, raise or keep the share."""
        settings, pressure, now = self.settings, metrics.gauge, metrics.at
        if pressure is None:
            return None
        seconds = 0.0 if self._at is None else now - self._at
        self._pressure, self._at = pressure, now
        if pressure >= settings.degraded:
            self._cut(pressure, now)
        else:
            self._stage = 0
            if pressure < settings.relaxed:
                self._share = min(1.0, self._share + settings.rise * seconds)
        self.reason = f"pressure is {pressure:.0%}, which leaves {self._share:.0%}"
        return self._share * settings.full

    def _cut(self, pressure: float, now: float) -> None:
        settings = self.settings
        stage = 2 if pressure >= settings.critical else 1
        since = now - self._cut_at
        if stage > self._stage and since >= settings.cut_interval:
            left, self._stage = settings.cut, stage
        elif stage <= self._stage and since >= settings.patience:
            left = settings.still
        else:
            return
        self._share = max(settings.least, self._share * left)
        self._cut_at = now

    @property
    def condition(self) -> Condition:
        """How the pressure is."""
        if self._pressure is not None and self._pressure >= self.settings.degraded:
            return Condition.DEGRADED
        return Condition.NORMAL if self._share >= 1.0 else Condition.RECOVERING

    def forget(self) -> None:
        """Do not rise for the time of which nothing is known."""
        self._at = None

    def state(self) -> dict[str, Value]:
        """Return the share and the pressure."""
        return {"share": self._share, "pressure": self._pressure, "condition": self.condition}
