"""Send a backend as much as it answers well: a rate limit that a loop re-tunes while calls run.

The backend can do 200 calls a second, for a minute only 60, and then 200 again. On a clock of its
own, so that three minutes pass in a moment.
"""

from __future__ import annotations

from contextlib import suppress

from ninelives_grpc import FeedbackLoop, RateLimit, Refused, Registry, Stack, laws
from ninelives_grpc.testing import VirtualClock

CLOCK = VirtualClock(0.0)


class Backend:
    """Fails all calls beyond what it can do in a second."""

    def __init__(self) -> None:
        self.capacity = 200.0
        self.failed = 0
        self._due = 0.0

    def call(self) -> None:
        """Answer, or fail."""
        now = CLOCK.now()
        self._due = max(self._due, now - 0.1) + 1.0 / self.capacity
        if self._due > now + 0.1:
            self._due -= 1.0 / self.capacity
            self.failed += 1
            raise ConnectionError("overloaded")


def call_for(stack: Stack, backend: Backend, loop: FeedbackLoop, seconds: float) -> None:
    """Make 300 calls a second, and let the loop look when it is due."""
    until = CLOCK.now() + seconds
    while CLOCK.now() < until:
        with suppress(ConnectionError, Refused):
            stack.call(backend.call)
        CLOCK.advance(1.0 / 300.0)
        if CLOCK.now() >= loop.due:
            loop.tick(CLOCK.now())


def main() -> None:
    """Show the rate, and how many calls fail, before, during and after."""
    registry, backend = Registry(), Backend()
    stack = Stack("prices", RateLimit(200.0, 20.0), registry=registry, clock=CLOCK)
    rate = stack.parameters["rate_limit/rate"]
    loop = FeedbackLoop(laws.HealthRateLaw(200.0, recovery=0.01), rate, interval=1.0)
    registry.add_loop(loop, start=False)
    for capacity in (200.0, 60.0, 200.0):
        backend.capacity, backend.failed = capacity, 0
        call_for(stack, backend, loop, 60.0)
        print(f"{capacity:.0f}/s possible: {rate.get():.0f}/s let through, {backend.failed} failed")


if __name__ == "__main__":
    main()
