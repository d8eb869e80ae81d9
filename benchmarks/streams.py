"""What a message of a stream costs more with us than without: ratios to bare gRPC.

    python benchmarks/streams.py [--rounds 100] [--calls 200]

`--calls` is the messages of a stream. As `overhead.py` measures: clients against a bare sync
server, servers from a bare sync client; ours has the full stack. tenacity with pybreaker and
grpc-client-kit have nothing for streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue
from measure import (
    HEAR,
    REQUEST,
    SERVERS,
    TELL,
    Rows,
    bare_channel,
    options,
    report,
    servers,
    take_turns,
    take_turns_aio,
    turn_metrics_on,
)
from variants import Variant, aio_variants, sync_variants

METHODS = {"response stream": TELL, "request stream": HEAR}


def run(variant: Variant, method: str, messages: int) -> float:
    """Return the microseconds a message takes."""
    call = variant.call(method)
    started = time.perf_counter()
    if method == TELL:
        for _ in call(StringValue(value=str(messages)), timeout=30.0):
            pass
    else:
        call(iter([REQUEST] * messages), timeout=30.0)
    return (time.perf_counter() - started) * 1e6 / messages


async def run_aio(variant: Variant, method: str, messages: int) -> float:
    """Return the microseconds a message takes under asyncio."""
    call = variant.call(method)
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


def measure(variants: dict[str, Variant], method: str, chosen: Any) -> Rows:
    """Let sync clients take turns."""
    turns = {
        name: partial(run, variant, method, chosen.calls) for name, variant in variants.items()
    }
    return take_turns(turns, chosen.rounds)


async def measure_aio(address: str, chosen: Any) -> None:
    """Let asyncio clients take turns, and print."""
    variants = aio_variants(address, streams=True)
    for title, method in METHODS.items():
        turns = {
            name: partial(run_aio, variant, method, chosen.calls)
            for name, variant in variants.items()
        }
        rows = await take_turns_aio(turns, chosen.rounds)
        report(f"asyncio client, {title}", rows, unit="message")
    for variant in variants.values():
        await variant.channel.close()


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=100, calls=200, callers=1)
    turn_metrics_on()
    with servers(*SERVERS) as addresses:
        address = addresses["sync bare"]
        clients = sync_variants(address, streams=True)
        for title, method in METHODS.items():
            report(f"sync client, {title}", measure(clients, method, chosen), unit="message")
        asyncio.run(measure_aio(address, chosen))
        for side in ("sync", "aio"):
            served = {
                which: Variant(bare_channel(address))
                for which, address in addresses.items()
                if which.startswith(side)
            }
            for title, method in METHODS.items():
                rows = measure(served, method, chosen)
                report(f"{side} server, {title}", rows, f"{side} bare", unit="message")


if __name__ == "__main__":
    main()
