"""Publish events to subscribers that come and go."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import Sink, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.events import Event


class Subscription:
    """The events for one subscriber: bounded, and lossy when it does not keep up.

    Attributes:
        dropped: Events that were lost because the queue was full; the oldest go first.
    """

    def __init__(
        self, stream: StreamingSink, size: int, notify: Callable[[], None], *, routine: bool
    ) -> None:
        """Start empty; `StreamingSink.subscribe` makes these."""
        self.dropped = 0
        self.routine = routine
        self._stream = stream
        self._notify = notify
        self._events: deque[Event] = deque()
        self._size = size
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """Take in one event, and tell the subscriber when it is the first that waits."""
        with self._lock:
            if len(self._events) >= self._size:
                self._events.popleft()
                self.dropped += 1
            self._events.append(event)
            first = len(self._events) == 1
        if first:
            self._notify()

    def take(self) -> list[Event]:
        """Return all events that wait, and make room."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    def close(self) -> None:
        """End the subscription."""
        self._stream.unsubscribe(self)


class StreamingSink(Sink):
    """Hands each event to all subscribers of the moment."""

    def __init__(self, *, routine: bool = False) -> None:
        """Start with none; `routine` says whether any may ask for routine events."""
        self.routine = routine
        self._subscriptions: tuple[Subscription, ...] = ()
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscriptions)

    def subscribe(
        self, notify: Callable[[], None], *, size: int = 1000, routine: bool = False
    ) -> Subscription:
        """Begin a subscription.

        Args:
            notify: Called, from any thread, when an event has come and none was waiting; it must
                not block. It then calls `take` on the subscription.
            size: Events that may wait.
            routine: Whether to get the events of every good call as well.
        """
        if size < 1:
            msg = f"size must be at least 1, not {size}"
            raise ValueError(msg)
        subscription = Subscription(self, size, notify, routine=routine)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            self._subscriptions = tuple(
                other for other in self._subscriptions if other is not subscription
            )

    def emit(self, event: Event) -> None:
        """Hand the event to all subscribers.

        Raises:
            SinkError: One or more could not be notified; the others were, and all got the event.
        """
        errors: list[Exception] = []
        for subscription in self._subscriptions:
            if event.routine and not subscription.routine:
                continue
            try:
                subscription.put(event)
            except Exception as error:  # noqa: BLE001 - raised below, together
                errors.append(error)
        if errors:
            raise SinkError(errors)
