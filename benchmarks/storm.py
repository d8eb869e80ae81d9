"""Twenty clients that try again what fails: a process of its own.

    python benchmarks/storm.py 127.0.0.1:50051 "retry and budget"

It is told the same, and tells the same, as `rush.py`. Each client has a channel of its own, calls
come at random to any of them, and what a call is tried again for is all within its deadline.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
from measure import bare_aio_channel
from rushed import METHOD

from ninelives_grpc import Registry, Retry, Stack, Timeout, wrap_channel

CLIENTS = 20
ATTEMPTS = 4
ATTEMPT_TIMEOUT = 0.25
BACKOFF = 0.05
_POLICY = {
    "name": [{"service": "bench.Rush"}],
    "retryPolicy": {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": f"{BACKOFF}s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}
_THROTTLING = {"maxTokens": 10, "tokenRatio": 0.1}
Call = Callable[..., Any]


def _native(address: str, **more: Any) -> Call:
    config = json.dumps({"methodConfig": [_POLICY], **more})
    channel = bare_aio_channel(address, ("grpc.service_config", config))
    return channel.unary_unary(METHOD)  # type: ignore[no-any-return]


def none(address: str) -> Call:
    """Do not retry."""
    channel = bare_aio_channel(address, ("grpc.enable_retries", 0))
    return channel.unary_unary(METHOD)  # type: ignore[no-any-return]


def ours(address: str) -> Call:
    """Retry with a budget that is paid by successes, and a limit for each attempt."""
    stack = Stack(
        "storm",
        Retry(ATTEMPTS, initial_backoff=BACKOFF, idempotent=True) + Timeout(ATTEMPT_TIMEOUT),
        registry=Registry(),
    )
    channel = bare_aio_channel(address, ("grpc.enable_retries", 0))
    return wrap_channel(channel, stack).unary_unary(METHOD)  # type: ignore[no-any-return]


def native(address: str) -> Call:
    """Have gRPC retry, as a service config has it."""
    return _native(address)


def throttled(address: str) -> Call:
    """Have gRPC retry, with its own budget: gRFC A6's retry throttling."""
    return _native(address, retryThrottling=_THROTTLING)


def naive(address: str) -> Call:
    """Retry in a loop, as everybody has written one."""
    work = none(address)

    async def call(request: bytes, *, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's own
        end = time.monotonic() + timeout
        for attempt in range(ATTEMPTS):
            remaining = min(ATTEMPT_TIMEOUT, end - time.monotonic())
            try:
                return await work(request, timeout=remaining)
            except grpc.RpcError:
                last = attempt == ATTEMPTS - 1 or end - time.monotonic() < BACKOFF
                if last:
                    raise
            await asyncio.sleep(BACKOFF)
        raise AssertionError

    return call


CALLERS: dict[str, Callable[[str], Call]] = {
    "no retries": none,
    "retry and budget": ours,
    "gRPC's, with throttling": throttled,
    "gRPC's": native,
    "naive": naive,
}


async def run(address: str, caller: str, told: dict[str, Any]) -> list[Any]:
    """Make all calls, and return what became of each."""
    clients = [CALLERS[caller](address) for _ in range(CLIENTS)]
    for client in clients:
        await client(struct.pack("<d", 0.001), timeout=10.0)
    chance, now = random.Random(1), time.monotonic
    made: list[list[Any]] = []
    begin, deadline = told["begin"], told["deadline"]

    async def call(client: Call, request: bytes, row: list[Any]) -> None:
        try:
            await client(request, timeout=deadline)
        except grpc.RpcError as error:
            row[2] = error.code().name
        row[1] = now()

    gc.disable()
    async with asyncio.TaskGroup() as group:
        for at, seconds in told["calls"]:
            await asyncio.sleep(begin + at - now())
            row = [now(), 0.0, "OK", False]
            made.append(row)
            group.create_task(call(chance.choice(clients), struct.pack("<d", seconds), row))
    return made


def main() -> None:
    """Make the calls."""
    told = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2], told))))


if __name__ == "__main__":
    main()
