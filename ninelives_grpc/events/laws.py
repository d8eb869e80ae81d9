"""What feedback loops did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ninelives_grpc.events.event import Event, Severity, seconds, times

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class LawAdjusted(Event):
    """A law gave a parameter another value; `reason` is what it goes by, with the numbers.

    `calls` ended in the `seconds` that it went by, the last of them `age` seconds ago.
    """

    law: str
    parameter: str
    old: Value
    new: Value
    calls: int
    seconds: float
    age: float
    success_rate: float
    p99: float | None

    def why(self) -> str:
        """Say from what to what, and what the law went by."""
        about = f"{times(self.calls, 'call')} in {seconds(self.seconds)}"
        return (
            f"{self.parameter} from {_short(self.old)} to {_short(self.new)}: {self.reason} "
            f"({about})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPaused(Event):
    """A feedback loop does nothing for now.

    `reason` is no_calls, few_calls or no_gauge when its data is too old to go by, late when it was
    not asked for long, changed when somebody else has set the value, and no_value when there is
    none.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    parameter: str
    calls: int
    age: float

    def why(self) -> str:
        """Say what it waits for."""
        match self.reason:
            case "no_calls":
                return f"the last call ended {seconds(self.age)} ago"
            case "few_calls":
                return f"{times(self.calls, 'call')} are too few to go by"
            case "no_gauge":
                return "what it goes by is not known"
            case "late":
                return "it was not asked for so long that what it knows is too old"
            case "changed":
                return f"somebody else has set {self.parameter}"
            case _:
                return f"{self.parameter} has no value"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResumed(Event):
    """A feedback loop goes on, after `paused` seconds; `reason` is what it had paused for."""

    parameter: str
    paused: float

    def why(self) -> str:
        """Say after how long."""
        return f"it can go on, {seconds(self.paused)} after it paused for {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFailed(Event):
    """A law raised, or said something that is no value; the value stays. Told once in a row."""

    severity: ClassVar[Severity] = Severity.ERROR
    law: str
    parameter: str
    error: str

    def why(self) -> str:
        """Say what it raised."""
        return f"{self.law} failed: {self.error}"


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
