"""Where time comes from: the only place that reads a clock or waits for one.

Policies are told the time, drivers ask a `Clock` for it. Tests give a stack the `VirtualClock` of
`ninelives_grpc.testing`, on which a minute passes in no time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class Clock(Protocol):
    """Seconds that only ever grow, and two ways to wait for them."""

    now: Callable[[], float]
    """Seconds since an arbitrary moment."""

    def wait(self, woken: threading.Event, until: float | None) -> None:
        """Block this thread until `woken` is set or `now()` reaches `until`."""

    async def wait_async(self, woken: asyncio.Event, until: float | None) -> None:
        """Suspend this task until `woken` is set or `now()` reaches `until`."""

    def timeout(self, until: float | None) -> asyncio.Timeout:
        """Return the asyncio context that is cancelled when `now()` reaches `until`."""


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

    def timeout(self, until: float | None) -> asyncio.Timeout:
        """Return the asyncio context that is cancelled when the time has come."""
        return asyncio.timeout(None if until is None else until - time.monotonic())


MONOTONIC = MonotonicClock()


def wall_time(at: float) -> float:
    """Return the seconds since the Unix epoch at the monotonic time `at`."""
    return time.time() - time.monotonic() + at
