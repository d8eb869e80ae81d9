"""What a control law is: numbers in, a new value of one parameter out.

A law is declared as a policy is, by a frozen dataclass of parameters, and runs as a small object
that keeps what it has learned. It reads no clock and does no I/O: time comes in with the metrics.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.naming import snake_case
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.policy import Policy

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Metrics
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address, Live


class Window(StrEnum):
    """Which calls a law is told of."""

    READING = "reading"
    """Those since it was last told."""
    MINUTE = "minute"
    FIVE_MINUTES = "five_minutes"
    QUARTER_HOUR = "quarter_hour"


HORIZONS = {Window.MINUTE: 60.0, Window.FIVE_MINUTES: 300.0, Window.QUARTER_HOUR: 900.0}
"""Seconds of the longer windows."""


class ControlLaw(Protocol):
    """Decides on a new value of one parameter.

    It reads no clock, does no I/O and starts nothing: it is asked by one thread at a time, and
    keeps no more than a little state of its own. What it raises is logged and counted, and the
    value stays.
    """

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Return the value that should hold from now on, or None to leave it.

        Args:
            metrics: The calls since it was last asked, and the time.
            current: The value that holds; for a whole number with the part that was rounded away.
        """
        ...


@policy
class Law(Policy):
    """Move a parameter by how calls go.

    Args:
        interval: Seconds between two looks.
        cooldown: Seconds after a change in which the law looks on and changes nothing.
        low: Least value that it may set; None takes the parameter's own bound.
        high: Greatest value that it may set; None takes the parameter's own bound.
        enabled: Whether it may change anything.
        window: Which calls it is told of: those of the `reading`, since it was last told, or of
            the last `minute`, `five_minutes` or `quarter_hour`.
        minimum_calls: Calls that a reading must hold; it goes on until it does.
        stale_after: Intervals after which a reading with fewer calls, or none, is thrown away and
            the loop pauses.
        hold: Seconds for which a value stays that somebody else has set.
        deadband: Changes that are a smaller share of the value than this are not made, unless the
            law says the same again.
    """

    interval: float = parameter(
        default=5.0, low=0.01, high=3600.0, unit="seconds", doc="Time between two looks."
    )
    cooldown: float = parameter(
        default=0.0, low=0.0, high=3600.0, unit="seconds", doc="Rest after a change."
    )
    low: float | None = parameter(
        default=None, low=-1e12, high=1e12, doc="Least value that it may set."
    )
    high: float | None = parameter(
        default=None, low=-1e12, high=1e12, doc="Greatest value that it may set."
    )
    enabled: bool = parameter(default=True, doc="Whether it may change anything.")
    window: Window = parameter(default=Window.READING, doc="Which calls it is told of.")
    minimum_calls: int = parameter(
        default=10, low=1, high=1_000_000, unit="calls", doc="Calls that a reading must hold."
    )
    stale_after: int = parameter(
        default=3, low=1, high=1000, unit="intervals", doc="When data is too old to go by."
    )
    hold: float = parameter(
        default=60.0, low=0.0, high=86_400.0, unit="seconds", doc="Time for another's value."
    )
    deadband: float = parameter(
        default=0.01, low=0.0, high=1.0, unit="ratio", doc="Share of a change too small to make."
    )

    @property
    def needs_gauge(self) -> bool:
        """Whether it goes by the loop's own gauge, and by nothing without one."""
        return False

    def start(self) -> ControlLaw:
        """Return the running law."""
        raise NotImplementedError

    def live(self, address: Address) -> Live[Policy]:
        """Refuse: a law is not passed by calls.

        Raises:
            ConfigError: Always.
        """
        msg = "is a law and no policy of a call: give it to a FeedbackLoop, and that to a registry"
        raise ConfigError(msg, path=f"{address.stack}: {type(self).__name__}")

    def conflict(self) -> str:
        """Say when no value is left between the bounds."""
        if self.low is not None and self.high is not None and self.low > self.high:
            return f"low {self.low:g} must not be greater than high {self.high:g}"
        return ""

    @classmethod
    def default_name(cls) -> str:
        """Return the class name in snake_case, without "law"."""
        return snake_case(cls.__name__.removesuffix("Law"))


@policy
class SizeLaw(Law):
    """Move how much may be done at once or in a second: raised only while it is used.

    Args:
        used_from: Share in use from which the value may be raised.
    """

    used_from: float = parameter(
        default=0.5, low=0.0, high=1.0, unit="ratio", doc="Share in use from which to raise."
    )

    def is_used(self, metrics: Metrics) -> bool:
        """Tell whether so much is in use that more may be needed."""
        if metrics.used is None:
            return metrics.calls > 0
        return metrics.calls > 0 and metrics.used >= self.used_from


@policy
class CustomLaw(Law):
    """Move a parameter by a law of the application.

    Args:
        law: What is asked.
    """

    law: Any = option()

    def start(self) -> ControlLaw:
        """Return the law itself."""
        law: ControlLaw = self.law
        return law


L = TypeVar("L", bound=Law)


class RunningLaw(Generic[L]):
    """A law at work: its settings of now, and what it has learned.

    Attributes:
        settings: The snapshot that holds; it is swapped whole.
        reason: What the last answer came from, with the numbers.
        learns_from_calls: Whether it has nothing to go by when nobody calls.
    """

    learns_from_calls = True

    def __init__(self, settings: L) -> None:
        """Start with nothing learned."""
        self.settings = settings
        self.reason = ""

    def calculate(self, metrics: Metrics, current: float) -> float | None:
        """Return the value that should hold from now on, or None to leave it."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin anew: time has passed of which nothing is known."""

    def state(self) -> dict[str, Value]:
        """Return what it has learned, in plain values."""
        return {}


def between(value: float, low: float, high: float) -> float:
    """Return a value, or the bound that it is beyond."""
    return min(max(value, low), high)


def smoothed(old: float | None, new: float, weight: float) -> float:
    """Return the exponential mean after another value, which counts for `weight` of it."""
    return new if old is None else old + weight * (new - old)
