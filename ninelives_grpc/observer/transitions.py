"""Through which states circuits went, when and why."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.clock import wall_moment
from ninelives_grpc.events import CircuitClosed, CircuitHalfOpened, CircuitOpened, CircuitReset
from ninelives_grpc.observer.model import CircuitMetrics

if TYPE_CHECKING:
    from ninelives_grpc.events import Event

STATES: dict[type[Event], str] = {
    CircuitOpened: "open",
    CircuitHalfOpened: "half_open",
    CircuitClosed: "closed",
    CircuitReset: "closed",
}
"""The state that a circuit is in after each kind of event."""

_VERBS = {"open": "opened", "half_open": "half-opened", "closed": "closed"}
_KEPT = 256


class Transition(NamedTuple):
    """A change of state."""

    at: float
    state: str
    why: str


class Transitions:
    """The last changes of one circuit; one thread at a time."""

    __slots__ = ("_changes", "state")

    def __init__(self) -> None:
        """Begin closed."""
        self.state = "closed"
        self._changes: deque[Transition] = deque(maxlen=_KEPT)

    def add(self, event: Event) -> str:
        """Take in a change, and return the state before it."""
        before, self.state = self.state, STATES[type(event)]
        why = f"{_VERBS[self.state]} at {wall_moment(event.at):%H:%M:%S}: {event.why()}"
        self._changes.append(Transition(event.at, self.state, why))
        return before

    def told(self, key: str, state: str, since: float, now: float) -> CircuitMetrics:
        """Return the seconds in each state from one time to another, and what led to the last.

        Args:
            key: The circuit.
            state: The state that it is in.
            since: When the window begins, or the stack did.
            now: The end of the window.
        """
        seconds = dict.fromkeys(("closed", "open", "half_open"), 0.0)
        at, current = since, "closed"
        for change in self._changes:
            if change.at > at:
                seconds[current] += min(change.at, now) - at
                at = min(change.at, now)
            current = change.state
        seconds[current] += max(0.0, now - at)
        last = self._changes[-1] if self._changes else None
        return CircuitMetrics(
            key=key,
            state=state,
            since=max(0.0, now - (since if last is None else last.at)),
            seconds=seconds,
            why="" if last is None else last.why,
        )
