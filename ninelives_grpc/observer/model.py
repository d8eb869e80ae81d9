"""What the observer tells: plain values, each true at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninelives_grpc.observer.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitMetrics:
    """One circuit of a breaker.

    Attributes:
        key: Which of the breaker's circuits it is, "" for the only one.
        state: "closed", "open" or "half_open".
        since: Seconds for which it has been in that state.
        seconds: Seconds of the window that it was in each state.
        why: What led to the state, such as "opened at 14:02:11: 6 of the last 8 calls failed,
            UNAVAILABLE"; "" if it has been closed from the start.
    """

    key: str
    state: str
    since: float
    seconds: dict[str, float]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMetrics:
    """One policy in a window.

    Attributes:
        path: Its address, `stack/policy`.
        kind: Its class, such as "CircuitBreaker".
        events: What it did, by name of the event.
        refusals: Calls that it refused, by reason.
        retries: Extra attempts that it started.
        used: How much of a bulkhead or a rate limit is used now, 0..1, or None.
        left: Extra attempts that a budget could pay now, or None.
        error_rate: Share of calls that failed or that it refused, 0..1.
        circuits: Its circuits, those used last at the end.
    """

    path: str
    kind: str
    events: dict[str, int]
    refusals: dict[str, int]
    retries: int
    used: float | None
    left: float | None
    error_rate: float
    circuits: tuple[CircuitMetrics, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesMetrics:
    """The calls of one method to one target.

    Attributes:
        method: `package.Service/Method`; "_OTHER" stands for all beyond the first so many.
        target: Where the channel leads, "" if that is not known.
        traffic: The calls.
    """

    method: str
    target: str
    traffic: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class StackMetrics:
    """One stack in a window.

    Attributes:
        name: Its name.
        traffic: All its calls.
        series: The same by method and target, the busiest first.
        policies: Its policies, outermost first.
        overflowed: Calls since the start that were counted as "_OTHER".
    """

    name: str
    traffic: Traffic
    series: tuple[SeriesMetrics, ...]
    policies: tuple[PolicyMetrics, ...]
    overflowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All stacks in a window.

    Attributes:
        at: Time on the clock of the wall, seconds since 1970.
        window: Seconds that were asked for.
        stacks: The stacks, by name.
    """

    at: float
    window: float
    stacks: tuple[StackMetrics, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """Something is in another state from now on.

    Attributes:
        at: Time on the stack's clock.
        path: `stack/policy` of a circuit, `stack/policy/parameter` of a parameter.
        key: Which circuit, "" for the only one.
        old: The state or value before.
        new: The state or value now.
        why: What led to it.
    """

    at: float
    path: str
    key: str
    old: str
    new: str
    why: str
