"""Count the functions that Python calls for one RPC, and print them; run by `test_call_count`.

In a process of its own: with several event loops gRPC's poller wakes each of them for the others'
calls too, and every such round of a loop is seven calls.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    RateLimit,
    Registry,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
    wrap_channel,
)

from .servers import SyncServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WARM_UP, CALLS = 150, 50
"""How many calls fill the window of the breaker, and how many are looked at then."""
TESTS = str(Path(__file__).parent)
REQUEST = StringValue(value="hello")


def full_stack(*, hedged: bool = False) -> Stack:
    """Return a stack of every policy that a call usually passes through."""
    again = Hedge(60.0, idempotent=True) if hedged else Retry(3, budget=RetryBudget())
    gates = RateLimit(1e5, 1e5) + CircuitBreaker() + Bulkhead(64)
    return Stack("counted", Timeout(30.0) + again + gates, registry=Registry())


def method_of(channel: Any) -> Any:
    """Return the method as a generated stub has it."""
    return channel.unary_unary(
        "/test.Echo/Say",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
        _registered_method=True,
    )


def calls_of(profile: cProfile.Profile) -> int:
    """Return how many functions were called, other than the profiler's and those of the tests."""
    return sum(
        entry.callcount
        for entry in profile.getstats()
        if not any(own in str(entry.code) for own in ("_lsprof.Profiler", TESTS))
    )


def count(call: Callable[[StringValue], StringValue]) -> list[int]:
    """Return how many functions each of many sync calls takes."""
    counts = []
    for _ in range(WARM_UP + CALLS):
        profile = cProfile.Profile()
        profile.enable()
        response = call(REQUEST)
        profile.disable()
        assert response == REQUEST
        counts.append(calls_of(profile))
    return counts[WARM_UP:]


async def count_async(call: Callable[[StringValue], Awaitable[StringValue]]) -> list[int]:
    """Return how many functions each of many asyncio calls takes, those of the loop included."""
    counts = []
    for _ in range(WARM_UP + CALLS):
        profile = cProfile.Profile()
        profile.enable()
        response = await call(REQUEST)
        profile.disable()
        assert response == REQUEST
        counts.append(calls_of(profile))
    return counts[WARM_UP:]


async def count_asyncio(target: str, stacks: dict[str, Stack]) -> dict[str, list[int]]:
    """Count on a bare and on protected asyncio channels."""
    async with grpc.aio.insecure_channel(target) as bare:
        counts = {"aio bare": await count_async(method_of(bare))}
    for name, stack in stacks.items():
        async with wrap_channel(grpc.aio.insecure_channel(target), stack) as protected:
            counts[f"aio {name}"] = await count_async(method_of(protected))
    return counts


def main() -> None:
    """Count, and print the counts as JSON."""
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, _: request, StringValue.FromString, StringValue.SerializeToString
    )
    server = SyncServer(grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}))
    stacks = {"ours": full_stack(), "hedged": full_stack(hedged=True)}
    with grpc.insecure_channel(server.target) as bare:
        counts = {"sync bare": count(method_of(bare))}
    for name, stack in stacks.items():
        with wrap_channel(grpc.insecure_channel(server.target), stack) as protected:
            counts[f"sync {name}"] = count(method_of(protected))
    counts |= asyncio.run(count_asyncio(server.target, stacks))
    for stack in stacks.values():
        assert stack.recorder.totals().calls.total() == 2 * (WARM_UP + CALLS)
    server.close()
    print(json.dumps(counts))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
