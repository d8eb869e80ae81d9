"""Where a stack publishes its events."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.events.event import Event
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")


class Emitter:
    """Counts the events of one stack, and hands them to the sink if there is one.

    Nothing is made of an event unless somebody listens, and it is built when somebody looks:

        self._count = emitter.counter_of(self.name)
        ...
        self._count(CircuitRefused)
        if emitter.sink is not None:
            emitter.tell(CircuitRefused, ...)

    Attributes:
        stack: Name of the stack.
        sink: Where events go, or None.
        routine: Whether that sink wants routine events, checked before one is told.
    """

    def __init__(self, stack: str) -> None:
        """Start with nobody listening."""
        self.stack = stack
        self.sink: Sink | None = None
        self.routine = False
        self._counted: Counter[tuple[str, str]] = Counter()
        self._noted: dict[str, list[type[Event]]] = {}
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

    def counter_of(self, policy: str) -> Callable[[type[Event]], None]:
        """Return what counts the events of a policy, or of the stack itself by "".

        It is the `append` of a list: a function of ours would cost more than all the rest. Routine
        events are not counted.
        """
        return self._noted.setdefault(policy, []).append

    def fold(self) -> None:
        """Add up what was noted; the recorder of calls sees to it that this does not get long."""
        with self._lock:
            for policy, noted in tuple(self._noted.items()):
                # Others may append meanwhile, behind these.
                kinds = noted[:]
                del noted[: len(kinds)]
                # Most are of one kind, and counting those takes a tenth of what a Counter does.
                while kinds:
                    kind = kinds[0]
                    self._counted[policy, kind.__name__] += kinds.count(kind)
                    kinds = [each for each in kinds if each is not kind]

    def emit(self, event: Event) -> None:
        """Count an event that was built, and hand it on."""
        kind = type(event)
        if not kind.routine:
            self.counter_of(event.policy)(kind)
        if self.routine or not kind.routine:
            self.tell(kind, *event.values())

    def tell(self, kind: type[Event], /, *values: Any) -> None:
        """Hand on what was noted; a sink that raises is logged, never felt by the call.

        Args:
            kind: Which kind of event.
            values: Its values, in the order of its fields.
        """
        sink = self.sink
        if sink is None:
            return
        try:
            sink.take(kind, values)
        except Exception:  # a call must not fail because nobody could be told of it
            with self._lock:
                self._counted["", "SinkFailed"] += 1
            _LOGGER.exception("the sink of stack %r failed on %s", self.stack, kind.__name__)
