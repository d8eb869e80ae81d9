"""What a unary call costs more with us than without: microseconds, and ratios to bare gRPC.

    python benchmarks/overhead.py [--rounds 300] [--calls 20] [--callers 1]

The servers run in processes of their own. All variants take turns within each round; a row is the
median over the rounds of the time for one call, and of its ratio to the bare variant of the same
round. Ours run with OpenTelemetry metrics on, in the SDK, collected every second, and with the full
stack: timeout, retry with budget, circuit breaker, bulkhead and rate limit. Read the ratios: the
microseconds are this machine's.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
from measure import (
    REQUEST,
    SERVERS,
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
    timed,
    timed_aio,
    turn_metrics_on,
)

from ninelives_grpc import (
    CircuitBreaker,
    Registry,
    Stack,
    aio,
    client_interceptors,
    wrap_channel,
)


def one_gate(name: str) -> Stack:
    """A single gate: the least there is."""
    return Stack(name, CircuitBreaker(), registry=Registry())


class NoInterceptor(grpc.UnaryUnaryClientInterceptor):
    """gRPC's machinery for interceptors, and nothing else."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Do nothing."""
        return continuation(details, request)


class NoAioInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """gRPC's machinery for interceptors, and nothing else."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Do nothing."""
        return await continuation(details, request)


def sync_channels(address: str) -> dict[str, grpc.Channel]:
    """Return the variants of a sync channel."""
    return {
        "bare": bare_channel(address),
        "no-op interceptor": grpc.intercept_channel(bare_channel(address), NoInterceptor()),
        "ours, interceptor": grpc.intercept_channel(
            bare_channel(address), *client_interceptors(full_stack("interceptor"))
        ),
        "ours, wrapped": wrap_channel(bare_channel(address), full_stack("wrapped")),
        "ours, wrapped, one gate": wrap_channel(bare_channel(address), one_gate("one gate")),
    }


def aio_channels(address: str) -> dict[str, grpc.aio.Channel]:
    """Return the variants of an asyncio channel."""
    ours = aio.client_interceptors(full_stack("aio interceptor"))
    return {
        "bare": bare_aio_channel(address),
        "no-op interceptor": bare_aio_channel(address, interceptors=[NoAioInterceptor()]),
        "ours, interceptor": bare_aio_channel(address, interceptors=ours),
        "ours, wrapped": wrap_channel(bare_aio_channel(address), full_stack("aio wrapped")),
        "ours, wrapped, one gate": wrap_channel(
            bare_aio_channel(address), one_gate("aio one gate")
        ),
    }


def measure(channels: dict[str, grpc.Channel], chosen: Any) -> Rows:
    """Let sync channels take turns."""
    return take_turns(
        {
            name: partial(
                timed, partial(stub(channel), REQUEST, timeout=5.0), chosen.calls, chosen.callers
            )
            for name, channel in channels.items()
        },
        chosen.rounds,
    )


async def measure_aio(address: str, chosen: Any) -> Rows:
    """Let asyncio channels take turns."""
    channels = aio_channels(address)
    rows = await take_turns_aio(
        {
            name: partial(
                timed_aio,
                partial(stub(channel), REQUEST, timeout=5.0),
                chosen.calls,
                chosen.callers,
            )
            for name, channel in channels.items()
        },
        chosen.rounds,
    )
    for channel in channels.values():
        await channel.close()
    return rows


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=300, calls=20, callers=1)
    turn_metrics_on()
    with servers(*SERVERS) as addresses:
        bare = addresses["sync bare"]
        report("sync client, sync server", measure(sync_channels(bare), chosen))
        report("asyncio client, sync server", asyncio.run(measure_aio(bare, chosen)))
        for side in ("sync", "aio"):
            channels = {
                which: grpc.insecure_channel(address)
                for which, address in addresses.items()
                if which.startswith(side)
            }
            rows = measure(channels, chosen)
            report(f"{side} server, sync client", rows, f"{side} bare")


if __name__ == "__main__":
    main()
