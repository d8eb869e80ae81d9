"""Tools for tests: a clock that only moves when told to, a sink that remembers, a scripted backend.

clock = VirtualClock()
sink = MemorySink(routine=True)
stack = Stack("test", Retry(3) + CircuitBreaker(), clock=clock, sink=sink, registry=Registry())
with ScriptedBackend() as backend:
    backend.script("/shop.Cart/Get", fail(StatusCode.UNAVAILABLE), answer(Cart()))
    channel = wrap_channel(grpc.insecure_channel(backend.target), stack)
    ...
assert_ended(stack, success=1)
assert_happened(stack, RetryAttempt=1)
assert_settled(stack)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

from ninelives_grpc.assertions import assert_ended, assert_happened, assert_settled
from ninelives_grpc.scheduler import scheduler
from ninelives_grpc.scripted import (
    ReceivedCall,
    Reply,
    ScriptedBackend,
    answer,
    fail,
)
from ninelives_grpc.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MemorySink",
    "ReceivedCall",
    "Reply",
    "ScriptedBackend",
    "VirtualClock",
    "answer",
    "assert_ended",
    "assert_happened",
    "assert_settled",
    "fail",
]


class VirtualClock:
    """A clock on which an hour passes in no time.

    Whoever waits on it is served at once: it jumps to the end of the wait, unless what is waited
    for has happened already. Under asyncio it jumps only when nothing else can run, and always to
    what comes first. `advance` moves it from outside.
    """

    def __init__(self, start: float = 1000.0) -> None:
        """Begin at `start` seconds."""
        self._at = start
        self._timeouts: weakref.WeakKeyDictionary[asyncio.Timeout, float] = (
            weakref.WeakKeyDictionary()
        )
        self._waiting: list[float] = []
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self.now: Callable[[], float] = self._now

    def _now(self) -> float:
        return self._at

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; asyncio timeouts that run out fire."""
        self._jump(self._at + seconds)

    def wait(self, woken: threading.Event, until: float | None) -> None:
        """Return at once if woken, and at `until` otherwise; without an end, really wait."""
        if until is None:
            woken.wait()
        elif not woken.is_set():
            self._jump(max(self._at, until))

    def wait_then(self, until: float, function: Callable[[], None]) -> Callable[[], None]:
        """Jump to `until` in the scheduler's thread, and call a function there."""

        def jump() -> None:
            self._jump(until)
            function()

        return scheduler.later(0.0, jump)

    async def wait_async(self, woken: asyncio.Event, until: float | None) -> None:
        """Let the other tasks run, and jump towards `until` when none of them wakes this one."""
        if until is None:
            await woken.wait()
            return
        self._waiting.append(until)
        try:
            while self._at < until:
                # Somebody who has just come to the end of a wait gets the same chance again.
                since = self._at
                for _ in range(_PATIENCE):
                    if woken.is_set():
                        return
                    await asyncio.sleep(0)
                if since == self._at and until == min(self._waiting):
                    self._jump(min((until, *self._timeouts.values())))
        finally:
            self._waiting.remove(until)

    def wait_in_loop(
        self, loop: asyncio.AbstractEventLoop, until: float, function: Callable[[], None]
    ) -> Callable[[], object]:
        """Wait in a task as `wait_async` does, and call a function there."""

        async def wait() -> None:
            await self.wait_async(asyncio.Event(), until)
            function()

        return loop.create_task(wait()).cancel

    def timeout(self, until: float | None) -> asyncio.Timeout:
        """Return an asyncio timeout that fires when the clock is moved past `until`."""
        if until is not None and until <= self._at:
            return asyncio.timeout(0.0)
        timeout = asyncio.timeout(None)
        if until is not None:
            self._timeouts[timeout] = until
        return timeout

    def move(self, timeout: asyncio.Timeout, until: float) -> None:
        """Have a timeout fire when the clock is moved past another time."""
        with self._lock:
            self._timeouts[timeout] = until

    def at(self, until: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function when the clock is moved past `until`, in the thread that moves it."""
        entry = object()
        with self._lock:
            self._due[entry] = (until, function)
        return lambda: _discard(self._due.pop(entry, None))

    def _jump(self, to: float) -> None:
        with self._lock:
            self._at = max(self._at, to)
            functions = [entry for entry, (until, _) in self._due.items() if until <= self._at]
            called = [self._due.pop(entry)[1] for entry in functions]
            due = [timeout for timeout, until in self._timeouts.items() if until <= self._at]
        for timeout in due:
            del self._timeouts[timeout]
            # One that has been left already can not be moved any more.
            with contextlib.suppress(RuntimeError):
                timeout.reschedule(0.0)
        for function in called:
            function()


_PATIENCE = 20
"""Rounds of the event loop in which somebody else may wake a waiting task."""


def _discard(_: object) -> None:
    """Forget what was called off."""
