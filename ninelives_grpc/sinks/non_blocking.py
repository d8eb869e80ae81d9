"""Put a slow sink behind a bounded queue and a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event

_LOGGER = logging.getLogger("ninelives_grpc")


class NonBlockingSink(Sink):
    """Hands events on from a thread of its own; drops and counts what does not fit the queue.

    The thread starts with the first event, also in a forked child, and ends with `close`.

    Attributes:
        dropped: Events lost because the queue was full; the newest go first, so that the start of
            an incident is kept.
        failed: Events on which the sink behind raised.
    """

    def __init__(self, sink: Sink, *, size: int = 10_000) -> None:
        """Put `sink` behind a queue of `size` events."""
        self.dropped = 0
        self.failed = 0
        self.routine = sink.routine
        self._sink = sink
        self._size = size
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        afresh_in_children(self)

    def emit(self, event: Event) -> None:
        """Put the event into the queue, or count it as dropped."""
        with self._changed:
            if len(self._queue) >= self._size or self._closing:
                self.dropped += 1
                return
            self._queue.append(event)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver, name="ninelives-sink", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Deliver what is in the queue, end the thread, and close the sink behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._sink.close()

    def start_afresh(self) -> None:
        """Begin with nothing; a forked child has no thread, and its parent delivers the queue."""
        self._queue = deque()
        self._changed = threading.Condition()
        self._thread = None
        self._closing = False

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                event = self._queue.popleft()
            try:
                self._sink.emit(event)
            except Exception:
                self.failed += 1
                _LOGGER.exception("a sink failed on %s", event.name)
