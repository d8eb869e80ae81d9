"""Where time comes from: the only place that reads a clock or waits for one.

Policies are told the time, drivers ask a `Clock` for it. Tests give a stack the `VirtualClock` of
`ninelives_grpc.testing`, on which a minute passes in no time.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from ninelives_grpc.scheduler import scheduler

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Clock(Protocol):
    """Seconds that only ever grow, and ways to wait for them."""

    now: Callable[[], float]
    """Seconds since an arbitrary moment."""

    def wait(self, woken: threading.Event, until: float | None) -> None:
        """Block this thread until `woken` is set or `now()` reaches `until`."""

    async def wait_async(self, woken: asyncio.Event, until: float | None) -> None:
        """Suspend this task until `woken` is set or `now()` reaches `until`."""

    def wait_then(self, until: float, function: Callable[[], None]) -> Callable[[], None]:
        """Wait as `wait` does, but in another thread, and then call a function.

        It must not block. Returns how to call it off.
        """

    def wait_in_loop(
        self, loop: asyncio.AbstractEventLoop, until: float, function: Callable[[], None]
    ) -> Callable[[], object]:
        """Wait as `wait_async` does, but in the background of a loop, and then call a function.

        Returns how to call it off.
        """

    def timeout(self, until: float | None) -> asyncio.Timeout:
        """Return the asyncio context that is cancelled when `now()` reaches `until`."""

    def move(self, timeout: asyncio.Timeout, until: float) -> None:
        """Have a `timeout` that has been entered be cancelled at another time."""

    def at(self, until: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function in another thread when `now()` reaches `until`, as `wait_then`.

        It is a limit, for which a clock does not jump.
        """


class MonotonicClock:
    """The machine's monotonic clock."""

    def __init__(self) -> None:
        """Bind the clock function itself: a method around it would cost a call on every RPC."""
        self.now = time.monotonic

    def wait(self, woken: threading.Event, until: float | None) -> None:
        """Block this thread until `woken` is set or the time has come."""
        woken.wait(None if until is None else max(0.0, until - time.monotonic()))

    async def wait_async(self, woken: asyncio.Event, until: float | None) -> None:
        """Suspend this task until `woken` is set or the time has come."""
        try:
            async with self.timeout(until):
                await woken.wait()
        except TimeoutError:
            pass

    def wait_then(self, until: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function in the scheduler's thread when the time has come."""
        return scheduler.later(until - time.monotonic(), function)

    at = wait_then

    def wait_in_loop(
        self, loop: asyncio.AbstractEventLoop, until: float, function: Callable[[], None]
    ) -> Callable[[], object]:
        """Call a function in a loop, which need not run yet, when the time has come."""
        return loop.call_later(max(0.0, until - time.monotonic()), function).cancel

    def timeout(self, until: float | None) -> asyncio.Timeout:
        """Return the asyncio context that is cancelled when the time has come."""
        return asyncio.timeout(None if until is None else until - time.monotonic())

    def move(self, timeout: asyncio.Timeout, until: float) -> None:
        """Have a timeout be cancelled at another time."""
        timeout.reschedule(asyncio.get_running_loop().time() + until - time.monotonic())


MONOTONIC = MonotonicClock()


def rfc3339(moment: datetime, timespec: str = "milliseconds") -> str:
    """Write a moment of UTC as RFC 3339 has it, with `Z` for the zone."""
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def wall_moment(at: float) -> datetime:
    """Return the moment, in UTC, of the monotonic time `at`."""
    return datetime.fromtimestamp(wall_time(at), UTC)


def wall_time(at: float) -> float:
    """Return the seconds since the Unix epoch at the monotonic time `at`."""
    return time.time() - time.monotonic() + at
