"""Put a slow sink behind a bounded queue and a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.clock import MONOTONIC
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import LazySink

if TYPE_CHECKING:
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Values
    from ninelives_grpc.sinks.sink import Sink

_LOGGER = logging.getLogger("ninelives_grpc")
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Backpressure:
    """How well a sink keeps up. All events are queued, delivered, dropped or failed.

    Attributes:
        queued: Events that wait, or are being handed on.
        high_water: The most that ever waited.
        delivered: Events that the sink behind has taken.
        dropped: Events lost because the queue was full, or closed.
        failed: Events on which the sink behind raised.
        lag: Seconds that the event which waits longest has waited.
    """

    queued: int
    high_water: int
    delivered: int
    dropped: int
    failed: int
    lag: float


class NonBlockingSink(LazySink):
    """Hands events on from a thread of its own; drops and counts what does not fit the queue.

    The thread starts with the first event, also in a forked child, and ends with `close`. It does
    not keep the process from ending.

    Attributes:
        dropped: Events lost because the queue was full; the newest go first, so that the start of
            an incident is kept.
        failed: Events on which the sink behind raised.
        delivered: Events that the sink behind has taken.
    """

    def __init__(self, sink: Sink, *, size: int = 10_000, clock: Clock = MONOTONIC) -> None:
        """Put `sink` behind a queue of `size` events.

        Args:
            sink: The slow one.
            size: Events that may wait, 1 or more.
            clock: By which the lag is told.

        Raises:
            ValueError: The size is less than 1.
        """
        if size < 1:
            msg = f"size must be at least 1, not {size}"
            raise ValueError(msg)
        self.dropped = 0
        self.failed = 0
        self.delivered = 0
        self.routine = sink.routine
        self._sink = sink
        self._size = size
        self._now = clock.now
        self._high_water = 0
        self._queue: deque[tuple[float, type[Event], Values]] = deque()
        self._batch: deque[tuple[float, type[Event], Values]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        afresh_in_children(self)

    def take(self, kind: type[Event], values: Values) -> None:
        """Put the event into the queue, or count it as dropped."""
        with self._changed:
            queued = len(self._queue) + len(self._batch)
            in_hand = 1 if self._batch else 0
            if queued - in_hand >= self._size or self._closing:
                self.dropped += 1
                return
            self._queue.append((self._now(), kind, values))
            self._high_water = max(self._high_water, queued + 1)
            if not queued:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver, name="ninelives-sink", daemon=True
                )
                self._thread.start()

    def backpressure(self) -> Backpressure:
        """Return how well it keeps up."""
        with self._changed:
            waiting = self._batch or self._queue
            return Backpressure(
                queued=len(self._queue) + len(self._batch),
                high_water=self._high_water,
                delivered=self.delivered,
                dropped=self.dropped,
                failed=self.failed,
                lag=max(0.0, self._now() - waiting[0][0]) if waiting else 0.0,
            )

    def close(self, timeout: float | None = 5.0) -> None:
        """Deliver what is in the queue, end the thread, and close the sink behind.

        Args:
            timeout: Seconds to wait for a sink that does not come back; then it is left alone, and
                what waits for it is dropped. None waits for ever.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                self._give_up()
                return
        self._sink.close()

    def start_afresh(self) -> None:
        """Begin with nothing; a forked child has no thread, and its parent delivers the queue."""
        self._queue = deque()
        self._batch = deque()
        self._changed = threading.Condition()
        self._thread = None
        self._closing = False

    def _give_up(self) -> None:
        with self._changed:
            lost = len(self._queue)
            self._queue.clear()
            self.dropped += lost
        _LOGGER.warning("a sink does not come back; it is left alone, %d events are lost", lost)

    def _deliver(self) -> None:
        while self._next_batch():
            while self._batch:
                _, kind, values = self._batch[0]
                try:
                    self._sink.take(kind, values)
                except Exception:
                    failed = 1
                    _LOGGER.exception("a sink failed on %s", kind.__name__)
                else:
                    failed = 0
                with self._changed:
                    self._batch.popleft()
                    self.failed += failed
                    self.delivered += 1 - failed

    def _next_batch(self) -> bool:
        """Wait for events, and take some; False when there will be none any more."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            for _ in range(min(len(self._queue), _BATCH)):
                self._batch.append(self._queue.popleft())
            return bool(self._batch)
