"""Let a bulkhead find its size: a backend of 8 workers, of which 4 go after a while.

On a clock of its own, so that a minute passes in a moment. With the usual clock nothing has to
wait for anything: `registry.add_loop(loop)` starts a thread that asks the loop.
"""

from __future__ import annotations

import asyncio

from ninelives_grpc import Bulkhead, FeedbackLoop, Refused, Registry, Stack, laws
from ninelives_grpc.testing import VirtualClock

CLOCK = VirtualClock(0.0)
NEVER = asyncio.Event()


class Backend:
    """Takes 100 ms for a call, and lets those wait for which there is no worker."""

    def __init__(self) -> None:
        self.workers = 8
        self._free_at: list[float] = [0.0] * self.workers

    async def call(self) -> None:
        """Wait for a worker, and for what it does."""
        now = CLOCK.now()
        busy = sorted(self._free_at)[-self.workers :]
        done = max(busy[0], now) + 0.1
        self._free_at = [*busy[1:], done]
        await CLOCK.wait_async(NEVER, done)


async def caller(stack: Stack, backend: Backend, until: float) -> None:
    """Call again and again; whoever is refused waits a little."""
    while CLOCK.now() < until:
        try:
            await stack.acall(backend.call)
        except Refused:
            await CLOCK.wait_async(NEVER, CLOCK.now() + 0.1)


async def main() -> None:
    """Let 16 callers call, and the loop look every second."""
    registry, backend = Registry(), Backend()
    stack = Stack("prices", Bulkhead(2), registry=registry, clock=CLOCK)
    size = stack.parameters["bulkhead/max_concurrent"]
    loop = FeedbackLoop(laws.AimdLaw(latency=0.15), size, interval=1.0, bounds=(2, 100))
    registry.add_loop(loop, start=False)
    callers = [asyncio.create_task(caller(stack, backend, until=60.0)) for _ in range(16)]
    for workers, at in ((8, 5), (8, 30), (4, 60)):
        backend.workers = workers
        while loop.due <= at:
            await CLOCK.wait_async(NEVER, loop.due)
            loop.tick(CLOCK.now())
        print(f"after {at} s: {size.get()} at once for {workers} workers; {loop.reason}")
    await asyncio.gather(*callers)


if __name__ == "__main__":
    asyncio.run(main())
