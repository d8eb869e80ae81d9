"""Where a stack publishes its events."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from ninelives_grpc.events.event import Event
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")
_FOLD_AT = 1024
"""Events that are noted before one of them adds them up."""


class Emitter:
    """Counts the events of one stack, and hands them to the sink if there is one.

    An event is only built when somebody listens:

        if emitter.count(self.name, CircuitRefused):
            emitter.publish(CircuitRefused(...))

    Attributes:
        stack: Name of the stack.
        sink: Where events go, or None.
        routine: Whether that sink wants routine events, checked before one is built.
    """

    def __init__(self, stack: str) -> None:
        """Start with nobody listening."""
        self.stack = stack
        self.sink: Sink | None = None
        self.routine = False
        self._counted: Counter[tuple[str, str]] = Counter()
        self._noted: deque[tuple[str, type[Event]]] = deque()
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def attach(self, sink: Sink | None) -> None:
        """Send events to this sink from now on."""
        self.sink = sink
        self.routine = sink is not None and sink.routine

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many events there were, by (policy, event name); routine ones are not in it."""
        self._fold()
        with self._lock:
            return Counter(self._counted)

    def count(self, policy: str, kind: type[Event]) -> bool:
        """Count an event that is not routine, and tell whether it is worth building."""
        noted = self._noted
        noted.append((policy, kind))
        if len(noted) >= _FOLD_AT:
            self._fold()
        return self.sink is not None

    def _fold(self) -> None:
        """Add up what has been noted since the last time."""
        noted = self._noted
        with self._lock:
            found = Counter(noted.popleft() for _ in range(len(noted)))
            for (policy, kind), count in found.items():
                self._counted[policy, kind.__name__] += count

    def emit(self, event: Event) -> None:
        """Count an event that was built, and hand it on."""
        if not event.routine:
            self.count(event.policy, type(event))
        self.publish(event)

    def publish(self, event: Event) -> None:
        """Hand on what was counted; a sink that raises is logged, never felt by the call."""
        sink = self.sink
        if sink is None or (event.routine and not sink.routine):
            return
        try:
            sink.emit(event)
        except Exception:  # a call must not fail because nobody could be told of it
            with self._lock:
                self._counted["", "SinkFailed"] += 1
            _LOGGER.exception("the sink of stack %r failed on %s", self.stack, event.name)
