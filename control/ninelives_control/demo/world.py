"""Everything that the demo runs: two backends, the clients that call them, and their stacks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.wrappers_pb2 import StringValue

from ninelives_control.demo.backend import Backend
from ninelives_control.demo.load import Load
from ninelives_grpc import (
    Bulkhead,
    Call,
    CircuitBreaker,
    RateLimit,
    Registry,
    Respond,
    Retry,
    Stack,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ninelives_grpc.stacks.algebra import Expression

R = TypeVar("R")
SHOP_RATE, REVIEWS_RATE = 60.0, 40.0
"""Calls a second of each load."""


class World:
    """The shop, in a thread and an event loop of its own.

    Attributes:
        registry: Holds the four stacks.
        shop: The backend that has errors and delays.
        reviews: The backend that dies; its clients have a local answer to fall back on.
    """

    def __init__(self) -> None:
        """Build the stacks."""
        self.registry = Registry()
        shop_server = self._stack(
            "shop-server", Timeout(1.0) + RateLimit(1000.0, 20.0) + Bulkhead(64)
        )
        reviews_server = self._stack("reviews-server", Timeout(1.0) + Bulkhead(64))
        shop = self._stack(
            "shop",
            Timeout(2.0) + Retry(3, initial_backoff=0.05) + CircuitBreaker() + Bulkhead(64),
        )
        reviews = self._stack(
            "reviews",
            (Timeout(1.0) + Retry(2, initial_backoff=0.05) + CircuitBreaker() + Bulkhead(64))
            | Respond(_no_reviews),
        )
        self.shop = Backend("shop", shop_server)
        self.reviews = Backend("reviews", reviews_server)
        self._clients = {"shop": (shop, SHOP_RATE), "reviews": (reviews, REVIEWS_RATE)}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo", daemon=True)
        self._loads: list[Load] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the backends, and then the loads."""
        self._thread.start()
        self.do(self._start())

    def stop(self) -> None:
        """Stop everything; the loop and its thread end."""
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[object, object, R]) -> R:
        """Run a coroutine in the demo's loop, from another thread, and wait for it."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        finally:
            doing.cancel()  # if Ctrl-C came meanwhile

    def _stack(self, name: str, expression: Expression) -> Stack:
        return Stack(name, expression, registry=self.registry)

    async def _start(self) -> None:
        for backend in (self.shop, self.reviews):
            await backend.start()
            stack, rate = self._clients[backend.name]
            load = Load(stack, backend.address, rate)
            self._loads.append(load)
            self._tasks.append(asyncio.get_running_loop().create_task(load.run()))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for load in self._loads:
            await load.close()
        for backend in (self.shop, self.reviews):
            await backend.kill()


def _no_reviews(call: Call) -> object:
    """Answer in place of the reviews: one message, or a stream of one."""
    answer = StringValue(value="no reviews right now")
    streams = call.method.name.endswith(("Browse", "Chat"))
    return [answer] if streams else answer
