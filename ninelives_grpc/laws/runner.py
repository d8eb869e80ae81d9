"""Waits until feedback loops are due, and asks them: in one thread, or in a task of asyncio.

One thread for a registry, there from the first loop on until the last is gone or the loops are
stopped. A forked child has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.laws.loop import FeedbackLoop

_LOGGER = logging.getLogger("ninelives_grpc")
_AFTER_FORK = 0.1
"""Seconds that a child waits before its first look, until all has been started afresh in it."""


class Host:
    """Somebody who asks the loops: a thread or a task.

    Attributes:
        stopped: Whether it is to end.
        wake: Ends its wait.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.stopped = False
        self.wake = wake


class LoopRunner:
    """The loops of one registry, and who asks them.

    Attributes:
        loops: The loops, in the order in which they came.
        running: Whether they are asked.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.loops: tuple[FeedbackLoop, ...] = ()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._hosts: tuple[Host, ...] = ()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Have a thread of its own in a child, if the parent had one."""
        self._lock = threading.RLock()
        threaded, self._thread, self._hosts = self._thread is not None, None, ()
        if threaded:
            self._start(_AFTER_FORK)

    @property
    def running(self) -> bool:
        """Whether somebody asks the loops."""
        return bool(self._hosts)

    def add(self, loop: FeedbackLoop) -> None:
        """Take in a loop."""
        with self._lock:
            self.loops = (*self.loops, loop)
        loop.changed = self.wake
        self.wake()

    def remove(self, loop: FeedbackLoop) -> None:
        """Ask a loop no more; without any, the thread ends."""
        with self._lock:
            self.loops = tuple(other for other in self.loops if other is not loop)
            # At once, as another loop may come meanwhile, for which this thread would do.
            ended = None if self.loops or self._thread is None else self._end()
        _join(ended)

    def wake(self) -> None:
        """Have whoever waits look again at what is due."""
        for host in self._hosts:
            host.wake()

    def start(self) -> None:
        """Ask the loops in a thread, unless somebody does already."""
        with self._lock:
            if not self._hosts and self.loops:
                self._start(0.0)

    def stop(self) -> None:
        """Ask no loop any more, and wait until the thread has ended."""
        with self._lock:
            ended = self._end()
        _join(ended)

    async def run(self) -> None:
        """Ask the loops in this task, until it is cancelled or they are stopped.

        The thread ends if there is one: loops are asked by one at a time.
        """
        self.stop()
        woken, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            # Its loop may have ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        host = Host(wake)
        with self._lock:
            self._hosts = (*self._hosts, host)
        try:
            while not host.stopped:
                woken.clear()
                wait = self.tick()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await woken.wait()
        finally:
            with self._lock:
                self._hosts = tuple(other for other in self._hosts if other is not host)

    def tick(self) -> float | None:
        """Ask all loops that are due; returns the seconds until the next is, None without any."""
        for loop in self.loops:
            if loop.due <= loop.now:
                try:
                    loop.tick(loop.now)
                except Exception:
                    _LOGGER.exception("the feedback loop %s failed", loop.path)
        return min((max(0.0, loop.due - loop.now) for loop in self.loops), default=None)

    def _end(self) -> threading.Thread | None:
        """Tell whoever asks to end, and return the thread, if that is one."""
        thread, self._thread = self._thread, None
        hosts, self._hosts = self._hosts, ()
        for host in hosts:
            host.stopped = True
            host.wake()
        return thread

    def _start(self, delay: float) -> None:
        woken = threading.Event()
        host = Host(woken.set)
        # The thread does not keep the runner alive, and ends with it.
        reference = weakref.ref(self, lambda _: woken.set())
        self._hosts = (host,)
        self._thread = threading.Thread(
            target=_run, args=(reference, host, woken, delay), name="ninelives-loops", daemon=True
        )
        self._thread.start()


def _join(thread: threading.Thread | None) -> None:
    """Wait until a thread has ended, unless it is this one: a sink or a gauge may end the loops."""
    if thread is not None and thread is not threading.current_thread():
        thread.join()


def _run(
    reference: weakref.ref[LoopRunner], host: Host, woken: threading.Event, delay: float
) -> None:
    woken.wait(delay)
    while not host.stopped:
        runner = reference()
        if runner is None:
            return
        woken.clear()
        wait = runner.tick()
        del runner
        woken.wait(wait)
