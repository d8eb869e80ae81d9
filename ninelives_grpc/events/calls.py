"""How calls went, and what was tried next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ninelives_grpc.events.event import Event, Severity, seconds, times


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSucceeded(Event):
    """A call ended well, after all its attempts; `attempt` counts them."""

    routine: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.DEBUG
    duration: float

    def why(self) -> str:
        """Say how long it took."""
        return f"answered in {seconds(self.duration)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed(Event):
    """A call ended with an error, after all its attempts; `attempt` counts them."""

    severity: ClassVar[Severity] = Severity.WARNING
    duration: float
    code: str

    def why(self) -> str:
        """Say with which code, and after what."""
        after = f"{times(self.attempt, 'attempt')} and {seconds(self.duration)}"
        return f"{self.code} after {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAttempt(Event):
    """A failed attempt will be repeated; `attempt` is the number of the next one."""

    delay: float
    code: str

    def why(self) -> str:
        """Say what failed, and how long it waits."""
        return f"attempt {self.attempt - 1} ended with {self.code}; next in {seconds(self.delay)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryExhausted(Event):
    """A failed attempt will not be repeated.

    `reason` is max_attempts, budget, deadline, not_retryable, committed, pushback or cancelled.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    attempts: int
    code: str

    def why(self) -> str:
        """Say what failed, and what stands against another attempt."""
        said = _STOPS.get(self.reason, self.reason)
        return f"attempt {self.attempts} ended with {self.code}, and {said}"


_STOPS = {
    "max_attempts": "there may be no more of them",
    "budget": "the budget has nothing left for another",
    "deadline": "there is no time for another",
    "not_retryable": "that is not repeated",
    "committed": "part of the answer has been delivered",
    "pushback": "the server asked not to try again so soon",
    "cancelled": "nobody waits for it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """The first side of a `|` failed with `code`, and the second was asked."""

    code: str

    def why(self) -> str:
        """Say what failed."""
        return f"the side before ended with {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSkipped(Event):
    """The first side of a `|` failed, and the second was not asked.

    `reason` is budget, or committed when there is no way back.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    code: str

    def why(self) -> str:
        """Say what failed, and what stands against the other side."""
        return f"the side before ended with {self.code}, and {_STOPS.get(self.reason, self.reason)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceStarted(Event):
    """Both sides of a `&` were started; `sides` is 1 when the budget did not allow the second."""

    sides: int

    def why(self) -> str:
        """Say how many run."""
        return f"{times(self.sides, 'side')} started"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceWon(Event):
    """One side of a `&` answered first: 0 is the left one."""

    side: int

    def why(self) -> str:
        """Say which."""
        return f"side {self.side} answered first"


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """Another attempt was started while the call was under way; `hedge` counts from 1.

    It came `after` so many seconds, because of a failure with `code`, or "" when none had come.
    """

    hedge: int
    after: float
    code: str

    def why(self) -> str:
        """Say what it came after."""
        before = f"an attempt ended with {self.code}" if self.code else "no answer"
        return f"{before} after {seconds(self.after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeWon(Event):
    """A hedge answered before the first attempt did; `hedge` counts from 1."""

    hedge: int

    def why(self) -> str:
        """Say which."""
        return f"hedge {self.hedge} answered first"


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeRefused(Event):
    """Another attempt was due, and was not made.

    `reason` is budget, deadline, pushback, or refused when a policy inside said no or not yet.
    """

    def why(self) -> str:
        """Say what stands against it."""
        return _STOPS.get(self.reason, "a policy inside said no")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected(Event):
    """A call is delayed, and then fails with `code`, or goes on if that is ""."""

    delay: float
    code: str

    def why(self) -> str:
        """Say what was done to it."""
        then = f"failed with {self.code}" if self.code else "let go"
        return f"on purpose: delayed {seconds(self.delay)}, then {then}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded(Event):
    """A local answer was given instead of the backend's."""

    def why(self) -> str:
        """Say so."""
        return "answered here"
