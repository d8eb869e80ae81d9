"""Where a stack publishes its events."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from ninelives_grpc.events.event import Event
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")


class Emitter:
    """Counts the events of one stack, and hands them to the sink if there is one.

    An event is only built when somebody listens:

        if emitter.count(self.name, CircuitRefused):
            emitter.publish(CircuitRefused(...))

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

    def count(self, policy: str, kind: type[Event]) -> bool:
        """Count an event that is not routine, and tell whether it is worth building."""
        key = policy, kind.__name__
        counts = self.counts
        with self._lock:
            counts[key] = counts.get(key, 0) + 1
        return self.sink is not None

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
                self.counts["", "SinkFailed"] += 1
            _LOGGER.exception("the sink of stack %r failed on %s", self.stack, event.name)
