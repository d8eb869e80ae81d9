"""What breakers, bulkheads, rate limits and timeouts did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ninelives_grpc.events.event import Event, Severity, seconds, times


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOpened(Event):
    """Calls are refused for `duration` seconds; `key` names the circuit in its scope.

    `reason` is failure_rate, slow_call_rate or consecutive_failures; or probe_failures,
    probe_slowness when probes were judged. `calls`, `failures` and `slow` are what was judged,
    `code` and `cause` are what the last of them ended with.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    key: str
    duration: float
    calls: int
    failures: int
    slow: int
    failure_rate: float
    code: str
    cause: str

    def why(self) -> str:
        """Say how many of how many calls failed, and how."""
        what = "probe" if self.reason.startswith("probe") else "call"
        calls = times(self.calls, what)
        if self.reason in {"slow_call_rate", "probe_slowness"}:
            return f"{self.slow} of the last {calls} were slow"
        if self.reason == "consecutive_failures":
            return f"{calls} failed in a row, {self.cause}"
        return f"{self.failures} of the last {calls} failed, {self.cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitHalfOpened(Event):
    """A few probes are let through to see whether the backend is back."""

    key: str

    def why(self) -> str:
        """Say what it is for."""
        return "the time to stay open is over; probes find out"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitClosed(Event):
    """The backend is back; `probes` have been answered."""

    key: str
    probes: int

    def why(self) -> str:
        """Say how many probes went well."""
        return f"{times(self.probes, 'probe')} went well"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReset(Event):
    """Somebody made the circuit forget what it knew."""

    severity: ClassVar[Severity] = Severity.WARNING
    key: str

    def why(self) -> str:
        """Say so."""
        return "reset by command"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRefused(Event):
    """A call was refused because of the circuit.

    `reason` is open, half_open when enough probes run, or forced_open. `cause` is what opened it.
    """

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    key: str
    retry_after: float
    cause: str

    def why(self) -> str:
        """Say what the circuit waits for, and why."""
        if self.reason == "forced_open":
            return "forced open"
        state = "half-open, and enough probes run" if self.reason == "half_open" else "open"
        after = f" after {self.cause}" if self.cause else ""
        return f"{state}{after}; try again in {seconds(self.retry_after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReclaimed(Event):
    """A probe did not report back within its lease, and counts as failed."""

    severity: ClassVar[Severity] = Severity.WARNING
    key: str

    def why(self) -> str:
        """Say so."""
        return "the probe did not report back within its lease"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadAcquired(Event):
    """A call was let in; `in_flight` counts it."""

    routine: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.DEBUG
    in_flight: int

    def why(self) -> str:
        """Say how many run now."""
        return f"{times(self.in_flight, 'call')} under way with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadQueued(Event):
    """A call has to wait for another to end; `queued` counts it."""

    in_flight: int
    queued: int

    def why(self) -> str:
        """Say how many run and wait."""
        return f"{times(self.in_flight, 'call')} under way; {self.queued} wait with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadRefused(Event):
    """A call was refused: too many are running.

    `reason` is full when none may wait, queue_full when too many do, or waited when none has ended
    in the time that it may wait.
    """

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    in_flight: int
    limit: int
    queued: int
    waited: float

    def why(self) -> str:
        """Say how many run and wait."""
        now = f"{self.in_flight} of {self.limit} calls under way"
        if self.reason == "waited":
            return f"{now}, and no place for it within {seconds(self.waited)}"
        return now if self.reason == "full" else f"{now}, and {self.queued} wait already"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionAcquired(Event):
    """A call was let in by a queue; `in_flight` counts it."""

    routine: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.DEBUG
    in_flight: int

    def why(self) -> str:
        """Say how many run now."""
        return f"{times(self.in_flight, 'call')} under way with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionQueued(Event):
    """A call waits for its turn, which should come in time; `queued` counts it."""

    in_flight: int
    queued: int

    def why(self) -> str:
        """Say how many run and wait."""
        return f"{times(self.in_flight, 'call')} under way; {self.queued} wait with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRefused(Event):
    """A call was refused, as it would have been too late, or others matter more.

    `reason` is deadline when that was clear on arrival, late when its turn did not come in time,
    queue_full, displaced when it gave way to another, or shutdown. `service_time` is what a call
    takes lately, and `waited` for how long this one had waited.
    """

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    in_flight: int
    limit: int
    queued: int
    service_time: float
    waited: float

    def why(self) -> str:
        """Say how many run and wait, and for how long that keeps the others waiting."""
        if self.reason == "shutdown":
            return "the server shuts down"
        now = f"{self.in_flight} of {self.limit} calls under way, and {self.queued} wait"
        if self.reason in {"queue_full", "displaced"}:
            return f"{now}: {'it gave way' if self.reason == 'displaced' else 'no more may'}"
        now += f", each for {seconds(self.service_time)} of work"
        return f"{now}; it has waited {seconds(self.waited)}" if self.waited else now


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimitRefused(Event):
    """A call was refused: as many run as the backend can do, as far as is known now."""

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    in_flight: int
    limit: int

    def why(self) -> str:
        """Say how many run."""
        return f"{self.in_flight} of {self.limit} calls under way"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged(Event):
    """Another number of calls may run at once; told at most once a second.

    `reason` is a word of the algorithm, such as relaxed, overload, probe or probed for `nl`.
    `latency` is the mean of the last window, and `base` what a call takes when nothing waits.
    """

    old: int
    new: int
    in_flight: int
    latency: float
    base: float

    def why(self) -> str:
        """Say from what to what, and by which numbers."""
        took = f"calls took {seconds(self.latency)}"
        if self.base:
            took += f", and {seconds(self.base)} when nothing waits"
        return f"{self.old} to {self.new} with {self.in_flight} under way, {self.reason}: {took}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRefused(Event):
    """A call came too early after the ones before it.

    `reason` is rate, or too_heavy when it weighs more than a whole burst.
    """

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    key: str
    retry_after: float
    rate: float
    burst: float

    def why(self) -> str:
        """Say what is allowed, and when there is room again."""
        whose = f" for {self.key!r}" if self.key else ""
        if self.reason == "too_heavy":
            return f"it weighs more than a burst of {self.burst:g} calls{whose}"
        allowed = f"{self.rate:g} calls a second and bursts of {self.burst:g}{whose}"
        return f"{allowed} are used up for another {seconds(self.retry_after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitDelayed(Event):
    """A call has to wait for its turn."""

    key: str
    delay: float

    def why(self) -> str:
        """Say for how long."""
        return f"its turn comes in {seconds(self.delay)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitExceeded(Event):
    """A call came too early, but was let through, as the limit is not enforced for it."""

    key: str
    retry_after: float

    def why(self) -> str:
        """Say how much too early."""
        return f"{seconds(self.retry_after)} too early, and not enforced for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutOccurred(Event):
    """A time limit of ours ran out; `limit` is its length, `idle` if it was that of a message."""

    severity: ClassVar[Severity] = Severity.WARNING
    limit: float
    idle: bool = False

    def why(self) -> str:
        """Say which limit."""
        missed = "no message within" if self.idle else "no answer within"
        return f"{missed} {seconds(self.limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutRefused(Event):
    """A call arrived with too little time left to be worth starting."""

    refuses: ClassVar[bool] = True
    severity: ClassVar[Severity] = Severity.WARNING
    remaining: float
    needed: float

    def why(self) -> str:
        """Say how much time is left, and how much it takes."""
        return f"{seconds(self.remaining)} left, and it takes {seconds(self.needed)}"
