"""Keep the last events of each kind, for state queries, crash reports and tests."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import LazySink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Pending, Values


class MemorySink(LazySink):
    """Keeps the last `size` events of each kind, so that a flood of one does not wash out another.

    Events are numbered from 1 in the order in which they came, so that a reader can go on where it
    stopped.

    Attributes:
        life: What tells its numbers from those of another one, before or after it.
    """

    def __init__(self, size: int = 256, *, routine: bool = False) -> None:
        """Keep `size` events of each kind, 1 or more."""
        if size < 1:
            msg = f"size must be at least 1, not {size}"
            raise ValueError(msg)
        self.routine = routine
        self.life = secrets.token_hex(4)
        self._size = size
        self._events: dict[str, deque[tuple[int, Pending]]] = {}
        self._number = 0
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def take(self, kind: type[Event], values: Values) -> None:
        """Keep one event, which is built when somebody asks for it."""
        name = kind.__name__
        with self._lock:
            self._number += 1
            kept = self._events.get(name)
            if kept is None:
                kept = self._events[name] = deque(maxlen=self._size)
            kept.append((self._number, (kind, values)))

    def numbered(self, after: int = 0) -> list[tuple[int, Event]]:
        """Return what is kept of the events after a number, oldest first, with their numbers."""
        with self._lock:
            found = [entry for kept in self._events.values() for entry in kept if entry[0] > after]
        found.sort(key=lambda entry: entry[0])
        return [(number, kind.from_values(values)) for number, (kind, values) in found]

    @property
    def events(self) -> list[Event]:
        """What is kept, oldest first."""
        return [event for _, event in self.numbered()]

    def clear(self) -> None:
        """Forget all of it; numbers go on."""
        with self._lock:
            self._events.clear()
