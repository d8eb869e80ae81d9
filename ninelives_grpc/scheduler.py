"""Do something later, off the caller's thread: for sync futures and streams, which nobody waits in.

One thread for the process, there only while something is due, and for a moment after that: a hedge
is called off by most calls, and a thread for each of them would cost more than the call.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

_LINGER = 0.02
"""Seconds that the thread waits for something to do before it ends."""
_LOGGER = logging.getLogger("ninelives_grpc")


class Scheduler:
    """Runs functions at their time, in the order in which they are due."""

    def __init__(self) -> None:
        """Start without a thread."""
        self.start_afresh()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Begin with nothing due and no thread, as a forked child does."""
        # Reentrant, as garbage collection may call `later` from inside `later`.
        self._changed = threading.Condition(threading.RLock())
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function after so many seconds; it must not block. Returns how to call it off.

        Raises:
            RuntimeError: There is no thread yet, and none can be started.
        """
        if sys.is_finalizing():
            # A thread would wait for ever to start, and the process with it.
            return lambda: None
        with self._changed:
            if self._thread is None:
                # First, as a signal handler may raise here, and nobody could call the entry off.
                self._thread = threading.Thread(
                    target=self._run, name="ninelives-scheduler", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    # There may be no more threads now; whoever comes next tries again.
                    self._thread = None
                    raise
            entry = (time.monotonic() + seconds, next(self._numbers), function)
            heapq.heappush(self._due, entry)
            if self._due[0] is entry:
                self._changed.notify()

        def call_off() -> None:
            with self._changed:
                if entry in self._due:
                    self._due.remove(entry)
                    heapq.heapify(self._due)
                    self._changed.notify()

        return call_off

    def _run(self) -> None:
        while True:
            function = self._next()
            if function is None:
                return
            try:
                function()
            except BaseException:  # such as SystemExit: all others wait for this thread
                _LOGGER.exception("a scheduled step failed")
            # It may hold on to a call.
            del function

    def _next(self) -> Callable[[], None] | None:
        """Wait for what is due next; None when nothing is left to wait for."""
        with self._changed:
            # Something may become due between the end of the wait and the lock.
            while self._due or self._changed.wait(_LINGER) or self._due:
                if not self._due:
                    continue
                remaining = self._due[0][0] - time.monotonic()
                if remaining <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(remaining)
            self._thread = None
            return None


scheduler = Scheduler()
