"""Where a stack publishes its events."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, ParamSpec

from ninelives_grpc.events.pending import Pending, built
from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.events.event import Event
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")
P = ParamSpec("P")


class Emitter:
    """Counts the events of one stack, and hands them to the sink if there is one.

    Nothing is made of an event unless somebody listens, and it is built when somebody looks:

        if emitter.count(self.name, CircuitRefused):
            emitter.tell(CircuitRefused, ...)

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
        self._note = self._noted.append
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
        self.fold()
        with self._lock:
            return Counter(self._counted)

    def count(self, policy: str, kind: type[Event]) -> bool:
        """Count an event that is not routine, and tell whether it is worth building."""
        self._note((policy, kind))
        return self.sink is not None

    def fold(self) -> None:
        """Add up what was noted; the recorder of calls sees to it that this does not get long."""
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

    def tell(self, kind: Callable[P, Event], /, *args: P.args, **fields: P.kwargs) -> None:
        """Hand on what was counted; a sink that raises is logged, never felt by the call.

        Args:
            kind: Which kind of event.
            args: None.
            fields: What it is made of.
        """
        sink = self.sink
        if sink is not None:
            assert isinstance(kind, type)
            self._hand(sink, Pending(kind, fields))

    def publish(self, event: Event) -> None:
        """Hand on an event that is built already."""
        sink = self.sink
        if sink is not None and (sink.routine or not event.routine):
            self._hand(sink, built(event))

    def _hand(self, sink: Sink, pending: Pending) -> None:
        try:
            sink.take(pending)
        except Exception:  # a call must not fail because nobody could be told of it
            with self._lock:
                self._counted["", "SinkFailed"] += 1
            name = pending.kind.__name__
            _LOGGER.exception("the sink of stack %r failed on %s", self.stack, name)
