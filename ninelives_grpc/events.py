"""What policies did: one class an event, named in the past tense.

Events are published after the policy has released its lock. Two of them happen on every good call;
they are marked `routine`, and are only counted, not built, unless a sink asks for them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a policy did.

    Attributes:
        stack: Name of the stack.
        policy: Name of the policy in it, "" for the stack itself.
        method: `package.Service/Method`, "" where no call is concerned.
        at: Time on the stack's clock; `clock.wall_time(at)` converts it.
    """

    routine: ClassVar[bool] = False

    stack: str
    policy: str = ""
    method: str = ""
    at: float

    @property
    def name(self) -> str:
        """The kind of event, such as "CircuitOpened"."""
        return type(self).__name__

    def details(self) -> dict[str, Value]:
        """Return what this kind of event adds to the fields that all have."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _COMMON
        }


_COMMON = {"stack", "policy", "method", "at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSucceeded(Event):
    """A call ended well, after all its attempts."""

    routine: ClassVar[bool] = True
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed(Event):
    """A call ended with an error, after all its attempts."""

    duration: float
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAttempt(Event):
    """A failed attempt will be repeated; `attempt` is the number of the next one."""

    attempt: int
    delay: float
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryExhausted(Event):
    """A failed attempt will not be repeated.

    `reason` is max_attempts, budget, deadline, not_retryable, committed, pushback or cancelled.
    """

    attempts: int
    reason: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOpened(Event):
    """Calls are refused for `duration` seconds; `key` names the circuit in its scope."""

    key: str
    duration: float
    failure_rate: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitHalfOpened(Event):
    """A few probes are let through to see whether the backend is back."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitClosed(Event):
    """The backend is back."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReset(Event):
    """Somebody made the circuit forget what it knew."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRefused(Event):
    """A call was refused because the circuit is open."""

    key: str
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReclaimed(Event):
    """A probe did not report back within its lease, and counts as failed."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadAcquired(Event):
    """A call was let in; `in_flight` counts it."""

    routine: ClassVar[bool] = True
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadQueued(Event):
    """A call has to wait for another to end; `queued` counts it."""

    in_flight: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadRefused(Event):
    """A call was refused: too many are running, and the queue is full or the wait was too long."""

    in_flight: int
    queued: int
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRefused(Event):
    """A call came too early after the ones before it."""

    key: str
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitDelayed(Event):
    """A call has to wait for its turn."""

    key: str
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitExceeded(Event):
    """A call came too early, but was let through, as the limit is not enforced for it."""

    key: str
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutOccurred(Event):
    """A time limit of ours ran out; `limit` is its length, `idle` if it was that of a message."""

    limit: float
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutRefused(Event):
    """A call arrived with too little time left to be worth starting."""

    remaining: float
    needed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """The first side of a `|` failed with `code`, and the second was asked."""

    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSkipped(Event):
    """The first side of a `|` failed, and there was no budget or no way back to ask the second."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceStarted(Event):
    """Both sides of a `&` were started; `sides` is 1 when the budget did not allow the second."""

    sides: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceWon(Event):
    """One side of a `&` answered first: 0 is the left one."""

    side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """Another attempt was started while the call was under way; `hedge` counts from 1.

    It came `after` so many seconds, because of a failure with `code`, or "" when none had come.
    """

    hedge: int
    after: float
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeWon(Event):
    """A hedge answered before the first attempt did; `hedge` counts from 1."""

    hedge: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeRefused(Event):
    """Another attempt was due, and was not made.

    `reason` is budget, deadline, pushback, or refused when a policy inside said no or not yet.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected(Event):
    """A call is delayed, and then fails with `code`, or goes on if that is ""."""

    delay: float
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded(Event):
    """A local answer was given instead of the backend's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChanged(Event):
    """A parameter has a new value."""

    parameter: str
    old: Value
    new: Value
    revision: int
    by: str
    reason: str


class Emitter:
    """Where one stack publishes: counts every event, and hands it to the sink if there is one.

    Attributes:
        stack: Name of the stack.
        sink: Where events go, or None.
        routine: Whether that sink wants routine events, checked before one is built.
        counts: How many events there were, by (policy, event name); routine ones are not in it.
    """

    def __init__(self, stack: str) -> None:
        """Start with nobody listening."""
        self.stack = stack
        self.sink: Sink | None = None
        self.routine = False
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def attach(self, sink: Sink | None) -> None:
        """Send events to this sink from now on."""
        self.sink = sink
        self.routine = sink is not None and sink.routine

    def emit(self, event: Event) -> None:
        """Count the event and hand it on; a sink that raises is logged, never felt by the call."""
        if not event.routine:
            with self._lock:
                self.counts[event.policy, event.name] += 1
        sink = self.sink
        if sink is None or (event.routine and not sink.routine):
            return
        try:
            sink.emit(event)
        except Exception:  # a call must not fail because nobody could be told of it
            with self._lock:
                self.counts["", "SinkFailed"] += 1
            _LOGGER.exception("the sink of stack %r failed on %s", self.stack, event.name)
