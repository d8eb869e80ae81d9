"""The servers that are sent more than they can do, each in a process of its own.

    python benchmarks/rushed.py sync "admission queue"

A server has a backend that does sixteen calls at a time. It waits and does not compute, so that two
cores are enough for servers and load; how long a call takes is what it says. A sync server has as
many workers as the backend has places. Where handlers are to refuse, it has more of them: calls
would otherwise wait for a worker before any policy sees them. It may also compute instead, for a
twentieth of that time, and then a server has one core for all that it does.

The server prints its port, is told on a line of standard input what is to happen and from when on,
on the clock that all processes share, and prints what came when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import threading
import time
from bisect import bisect_right
from concurrent import futures
from typing import Any, NamedTuple

import grpc

from ninelives_grpc import (
    AdmissionExecutor,
    Bulkhead,
    LoadShed,
    Registry,
    Stack,
    aio,
    presets,
    server_interceptor,
)
from ninelives_grpc.policies.concurrency_limit import Algorithm

PLACES = 16
"""Calls that the backend does at once."""
THREADS = 64
"""Workers of a sync server whose handlers refuse."""
SPARE = 24
"""What somebody allows who knows the backend: half as many again."""
_QUICKER = 20.0
_LOOK = 0.02
"""Seconds after which a handler looks again whether its backend still hangs."""
METHOD = "/bench.Rush/Work"


class Happening(NamedTuple):
    """What holds for some seconds.

    Attributes:
        seconds: How long.
        slower: How many times as long a call takes.
        fails: Whether the backend fails at once.
        hangs: Whether it does nothing at all.
        computes: Whether a call takes the processor.
    """

    seconds: float
    slower: float = 1.0
    fails: bool = False
    hangs: bool = False
    computes: bool = False


class Backend:
    """Knows what happens when, and counts the calls that come to the server."""

    def __init__(self) -> None:
        """Be well, until told otherwise."""
        self._begins: list[float] = []
        self._happens: list[Happening] = []
        self._came: list[int] = []
        self._first = 0.0

    def told(self, line: str) -> None:
        """Take in what is to happen."""
        begin, happens = json.loads(line)
        self._first = time.process_time()
        self._happens = [Happening(*each) for each in happens]
        self._came = [0] * (len(happens) + 1)
        for each in self._happens:
            self._begins.append(begin)
            begin += each.seconds

    def arrived(self) -> None:
        """Count a call, or another attempt at one."""
        if self._came:
            self._came[bisect_right(self._begins, time.monotonic())] += 1

    def now(self) -> Happening:
        """Return what holds now."""
        number = bisect_right(self._begins, time.monotonic())
        return self._happens[number - 1] if number else Happening(0.0)

    def report(self) -> None:
        """Print how many calls came during what, and the CPU time that all took."""
        print(json.dumps([self._came[1:], time.process_time() - self._first]), flush=True)


BACKEND = Backend()


class Counting(grpc.ServerInterceptor):
    """Counts calls as they come, before anybody can refuse them."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Count one."""
        BACKEND.arrived()
        return continuation(handler_call_details)


class AioCounting(grpc.aio.ServerInterceptor):
    """Counts calls as they come, before anybody can refuse them."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Count one."""
        BACKEND.arrived()
        return await continuation(handler_call_details)


QUEUE, LIMIT, NOTHING, NATIVE = "admission queue", "concurrency limit", "nothing", "gRPC's limit"
SHED = "load shed"
VARIANTS = (NOTHING, NATIVE, "bulkhead", QUEUE, LIMIT, "aimd", "vegas", "gradient2", "envoy", SHED)
"""`gRPC's limit` is `maximum_concurrent_rpcs`; four are other algorithms of the limit, and the last
goes by the lag of the event loop."""


def stack_of(variant: str) -> Stack | None:
    """Return the stack of a variant, or None where gRPC is on its own."""
    registry = Registry()
    if variant in {NOTHING, NATIVE}:
        return None
    if variant == "bulkhead":
        return Stack("rushed", Bulkhead(SPARE), registry=registry)
    if variant == SHED:
        return Stack("rushed", LoadShed(sources=("loop_lag",)), registry=registry)
    if variant == QUEUE:
        # An asyncio server has no workers to know the width by.
        return presets.server("rushed", {"admission_queue/width": PLACES}, registry=registry)
    algorithm = Algorithm.NL if variant == LIMIT else Algorithm(variant)
    overrides = {"concurrency_limit/algorithm": algorithm}
    return presets.aio_server("rushed", overrides, registry=registry)


def compute(seconds: float) -> None:
    """Take the processor for a twentieth of the time."""
    end = time.thread_time() + seconds / _QUICKER
    while time.thread_time() < end:
        pass


def _handler(work: Any) -> grpc.GenericRpcHandler:
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    return grpc.method_handlers_generic_handler("bench.Rush", handlers)


def serve(variant: str) -> None:
    """Serve with threads until standard input ends."""
    places = threading.Semaphore(PLACES)

    def work(request: bytes, context: grpc.ServicerContext) -> bytes:
        (seconds,) = struct.unpack("<d", request)
        with places:
            happens = BACKEND.now()
            while happens.hangs and context.is_active():
                time.sleep(_LOOK)
                happens = BACKEND.now()
            if happens.fails:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the backend is gone")
            if happens.computes:
                compute(seconds)
            else:
                time.sleep(seconds * happens.slower)
        return request

    stack = stack_of(variant)
    interceptors: list[grpc.ServerInterceptor] = [Counting()]
    pool: futures.ThreadPoolExecutor = futures.ThreadPoolExecutor(PLACES)
    if variant == QUEUE:
        pool = AdmissionExecutor(PLACES)
    elif stack is not None:
        pool = futures.ThreadPoolExecutor(THREADS)
    if stack is not None:
        interceptors.append(server_interceptor(stack))
    most = SPARE if variant == NATIVE else None
    server = grpc.server(pool, interceptors=interceptors, maximum_concurrent_rpcs=most)
    server.add_generic_rpc_handlers((_handler(work),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    BACKEND.told(sys.stdin.readline())
    sys.stdin.read()
    BACKEND.report()
    server.stop(None).wait()


async def serve_aio(variant: str) -> None:
    """Serve with tasks until standard input ends."""
    places = asyncio.Semaphore(PLACES)

    async def work(request: bytes, context: Any) -> bytes:
        (seconds,) = struct.unpack("<d", request)
        async with places:
            happens = BACKEND.now()
            while happens.hangs:
                await asyncio.sleep(_LOOK)
                happens = BACKEND.now()
            if happens.fails:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the backend is gone")
            if happens.computes:
                compute(seconds)
            else:
                await asyncio.sleep(seconds * happens.slower)
        return request

    stack = stack_of(variant)
    interceptors: list[grpc.aio.ServerInterceptor] = [AioCounting()]
    if stack is not None:
        interceptors.append(aio.server_interceptor(stack))
    most = SPARE if variant == NATIVE else None
    server = grpc.aio.server(interceptors=interceptors, maximum_concurrent_rpcs=most)
    server.add_generic_rpc_handlers((_handler(work),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    BACKEND.told(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.to_thread(sys.stdin.read)
    BACKEND.report()
    await server.stop(None)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["sync", "aio"])
    parser.add_argument("variant", choices=VARIANTS)
    given = parser.parse_args()
    if given.side == "sync":
        serve(given.variant)
    else:
        asyncio.run(serve_aio(given.variant))


if __name__ == "__main__":
    main()
