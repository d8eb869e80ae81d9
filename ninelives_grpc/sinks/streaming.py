"""Publish events to subscribers that come and go: a bus that is bounded and lossy, and says so."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import LazySink, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Pending, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFigures:
    """What became of the events that one subscriber wanted.

    Attributes:
        name: Who it is.
        queued: Events that wait for it.
        delivered: Events that it took.
        dropped: Events that were lost, as it did not keep up.
    """

    name: str
    queued: int
    delivered: int
    dropped: int


class Subscription:
    """The events for one subscriber: bounded, and lossy when it does not keep up.

    Attributes:
        name: Who it is, for figures.
        delivered: Events that were taken.
        dropped: Events that were lost because the queue was full; the oldest go first.
    """

    def __init__(
        self,
        stream: StreamingSink,
        size: int,
        notify: Callable[[], None],
        *,
        routine: bool,
        name: str,
        wants: Callable[[Event], bool] | None,
    ) -> None:
        """Start empty; `StreamingSink.subscribe` makes these."""
        self.name = name
        self.delivered = 0
        self.dropped = 0
        self.routine = routine
        self._stream = stream
        self._notify = notify
        self._wants = wants
        self._events: deque[Pending] = deque()
        self._size = size
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def put(self, kind: type[Event], values: Values) -> None:
        """Take in one event, and tell the subscriber when it is the first that waits."""
        if self._wants is not None and not self._wants(kind.from_values(values)):
            return
        with self._lock:
            if len(self._events) >= self._size:
                self._events.popleft()
                self.dropped += 1
            self._events.append((kind, values))
            first = len(self._events) == 1
        if first:
            self._notify()

    def take(self) -> list[Event]:
        """Return all events that wait, and make room."""
        with self._lock:
            taken = list(self._events)
            self._events.clear()
            self.delivered += len(taken)
        return [kind.from_values(values) for kind, values in taken]

    def figures(self) -> SubscriptionFigures:
        """Return what became of its events so far; they add up to all that it wanted."""
        with self._lock:
            return SubscriptionFigures(
                name=self.name,
                queued=len(self._events),
                delivered=self.delivered,
                dropped=self.dropped,
            )

    def close(self) -> None:
        """End the subscription."""
        self._stream.unsubscribe(self)


class StreamingSink(LazySink):
    """Hands each event to all subscribers of the moment."""

    def __init__(self, *, routine: bool = False) -> None:
        """Start with none; `routine` says whether any may ask for routine events."""
        self.routine = routine
        self._subscriptions: tuple[Subscription, ...] = ()
        self._past = 0
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscriptions)

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """How many events were lost by all subscribers, also those that have gone."""
        return self._past + sum(each.dropped for each in self._subscriptions)

    def figures(self) -> list[SubscriptionFigures]:
        """Return what became of the events of each subscriber of the moment."""
        return [subscription.figures() for subscription in self._subscriptions]

    def subscribe(
        self,
        notify: Callable[[], None],
        *,
        size: int = 1000,
        routine: bool = False,
        name: str = "",
        wants: Callable[[Event], bool] | None = None,
    ) -> Subscription:
        """Begin a subscription.

        Args:
            notify: Called, from any thread, when an event has come and none was waiting; it must
                not block. It then calls `take` on the subscription.
            size: Events that may wait.
            routine: Whether to get the events of every good call as well.
            name: Who it is, for figures.
            wants: Tells which events it wants, others take no room; all by default. It runs on the
                path of a call.

        Raises:
            ValueError: The size is less than 1.
        """
        if size < 1:
            msg = f"size must be at least 1, not {size}"
            raise ValueError(msg)
        subscription = Subscription(self, size, notify, routine=routine, name=name, wants=wants)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._past += subscription.dropped
            self._subscriptions = tuple(
                other for other in self._subscriptions if other is not subscription
            )

    def take(self, kind: type[Event], values: Values) -> None:
        """Hand the event to all subscribers.

        Raises:
            SinkError: One or more could not be notified; the others were, and all got the event.
        """
        failures: list[tuple[object, Exception]] = []
        for subscription in self._subscriptions:
            if kind.routine and not subscription.routine:
                continue
            try:
                subscription.put(kind, values)
            except Exception as error:  # noqa: BLE001 - raised below, together
                failures.append((subscription, error))
        if failures:
            raise SinkError(failures)
