"""What throttle, early drop and load shed did: policies that let a share of the calls through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ninelives_grpc.events.event import Event, Severity, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleStarted(Event):
    """The backend says that it has too much to do: a fraction of the calls is sent from now on.

    `key` names whose calls, in the scope of the throttle.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    key: str
    fraction: float

    def why(self) -> str:
        """Say what is sent."""
        return f"the backend refuses calls for overload; {self.fraction:.2g} of them are sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleEnded(Event):
    """All calls are sent again; that took `lasted` seconds."""

    key: str
    lasted: float

    def why(self) -> str:
        """Say how long it took."""
        return f"the backend takes all again, after {seconds(self.lasted)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleRefused(Event):
    """A call was not sent, as the backend has too much to do; `reason` is the algorithm."""

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    key: str
    fraction: float

    def why(self) -> str:
        """Say what is sent."""
        return f"{self.fraction:.2g} of the calls are sent, as the backend refuses for overload"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyDropRefused(Event):
    """A call was refused before the limit behind is full; `of` says whose fill is meant."""

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    of: str
    fill: float
    dropped: float

    def why(self) -> str:
        """Say how full it is."""
        return f"{self.of} is {self.fill:.0%} full, and {self.dropped:.0%} of the calls refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedDegraded(Event):
    """A share of the calls is served from now on; `source` has the greatest pressure."""

    severity: ClassVar[Severity] = Severity.ERROR
    source: str
    pressure: float
    share: float

    def why(self) -> str:
        """Say what is short."""
        return f"{self.source} is at {self.pressure:.0%} of its limit; {self.share:.0%} are served"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedRecovering(Event):
    """The pressure has yielded, and the share of the calls that is served rises."""

    severity: ClassVar[Severity] = Severity.WARNING
    source: str
    pressure: float
    share: float

    def why(self) -> str:
        """Say what the pressure is now."""
        return f"{self.source} is down to {self.pressure:.0%}; {self.share:.0%} are served, rising"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedRecovered(Event):
    """All calls are served again."""

    source: str
    pressure: float
    share: float

    def why(self) -> str:
        """Say what the pressure is now."""
        return f"{self.source} is at {self.pressure:.0%} of its limit; all are served"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShedRefused(Event):
    """A call was refused as the process is short of something.

    `reason` is degraded or recovering, `source` what had the greatest pressure at the last reading.
    """

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    source: str
    pressure: float
    share: float

    def why(self) -> str:
        """Say what is short, and what is served."""
        return f"{self.source} is at {self.pressure:.0%} of its limit; {self.share:.0%} are served"
