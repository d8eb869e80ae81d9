"""What a message of a stream costs more with us than without: ratios to bare gRPC.

    python benchmarks/streams.py [--rounds 100] [--calls 200]

`--calls` is the messages of a stream. As `overhead.py` measures: clients against a bare sync
server, servers from a bare sync client; ours has the full stack.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from measure import (
    HEAR,
    REQUEST,
    TELL,
    Rows,
    bare_aio_channel,
    bare_channel,
    full_stack,
    options,
    report,
    servers,
    stub,
    take_turns,
    take_turns_aio,
    turn_metrics_on,
)

from ninelives_grpc import aio, client_interceptors, wrap_channel

METHODS = {"response stream": TELL, "request stream": HEAR}


def run(channel: grpc.Channel, method: str, messages: int) -> float:
    """Return the microseconds a message takes."""
    call = stub(channel, method)
    started = time.perf_counter()
    if method == TELL:
        for _ in call(StringValue(value=str(messages)), timeout=30.0):
            pass
    else:
        call(iter([REQUEST] * messages), timeout=30.0)
    return (time.perf_counter() - started) * 1e6 / messages


async def run_aio(channel: grpc.aio.Channel, method: str, messages: int) -> float:
    """Return the microseconds a message takes under asyncio."""
    call = stub(channel, method)
    started = time.perf_counter()
    if method == TELL:
        async for _ in call(StringValue(value=str(messages)), timeout=30.0):
            pass
    else:
        await call(_requests(messages), timeout=30.0)
    return (time.perf_counter() - started) * 1e6 / messages


async def _requests(messages: int) -> AsyncIterator[StringValue]:
    for _ in range(messages):
        yield REQUEST


def measure(channels: dict[str, grpc.Channel], method: str, chosen: Any) -> Rows:
    """Let sync channels take turns."""
    turns = {
        name: partial(run, channel, method, chosen.calls) for name, channel in channels.items()
    }
    return take_turns(turns, chosen.rounds)


async def measure_aio(address: str, chosen: Any) -> None:
    """Let asyncio channels take turns, and print."""
    ours = aio.client_interceptors(full_stack("aio interceptor"))
    channels = {
        "bare": bare_aio_channel(address),
        "ours, interceptor": bare_aio_channel(address, interceptors=ours),
        "ours, wrapped": wrap_channel(bare_aio_channel(address), full_stack("aio wrapped")),
    }
    for title, method in METHODS.items():
        turns = {
            name: partial(run_aio, channel, method, chosen.calls)
            for name, channel in channels.items()
        }
        rows = await take_turns_aio(turns, chosen.rounds)
        report(f"asyncio client, {title}", rows, unit="message")
    for channel in channels.values():
        await channel.close()


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=100, calls=200, callers=1)
    turn_metrics_on()
    with servers("sync bare", "sync ours", "aio bare", "aio ours") as addresses:
        address = addresses["sync bare"]
        interceptors = client_interceptors(full_stack("interceptor"))
        clients = {
            "bare": bare_channel(address),
            "ours, interceptor": grpc.intercept_channel(bare_channel(address), *interceptors),
            "ours, wrapped": wrap_channel(bare_channel(address), full_stack("wrapped")),
        }
        for title, method in METHODS.items():
            report(f"sync client, {title}", measure(clients, method, chosen), unit="message")
        asyncio.run(measure_aio(address, chosen))
        for side in ("sync", "aio"):
            served = {kind: bare_channel(addresses[f"{side} {kind}"]) for kind in ("bare", "ours")}
            for title, method in METHODS.items():
                rows = measure(served, method, chosen)
                report(f"{side} server, {title}", rows, unit="message")


if __name__ == "__main__":
    main()
