"""What fifty callers at once notice of us: latency, and CPU time of the client's process.

    python benchmarks/callers.py [--rounds 60] [--calls 500] [--callers 50]

`--calls` is the unary calls of a turn, by all callers together. A row is the median over the rounds
of the turn's 50th or 99th percentile of latency, or of its CPU time by the number of calls.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import grpc
from measure import (
    REQUEST,
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


class Turn(NamedTuple):
    """What one turn showed, all in microseconds."""

    p50: float
    p99: float
    cpu: float


def crowd(call: Callable[[], object], pool: ThreadPoolExecutor, calls: int, callers: int) -> Turn:
    """Let so many threads call."""

    def run(_: int) -> list[float]:
        return [_timed(call) for _ in range(calls // callers)]

    started = time.process_time()
    latencies = [latency for part in pool.map(run, range(callers)) for latency in part]
    return _turn(latencies, time.process_time() - started)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


async def crowd_aio(call: Callable[[], Any], calls: int, callers: int) -> Turn:
    """Let so many tasks call."""
    latencies: list[float] = []

    async def run() -> None:
        for _ in range(calls // callers):
            began = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - began)

    started = time.process_time()
    await asyncio.gather(*(run() for _ in range(callers)))
    return _turn(latencies, time.process_time() - started)


def _turn(latencies: list[float], cpu: float) -> Turn:
    hundredths = statistics.quantiles(latencies, n=100)
    return Turn(hundredths[49] * 1e6, hundredths[98] * 1e6, cpu * 1e6 / len(latencies))


def tell(title: str, turns: dict[str, list[Turn]]) -> None:
    """Print a table for each figure."""
    for figure in Turn._fields:
        rows = {name: [getattr(turn, figure) for turn in row] for name, row in turns.items()}
        report(f"{title}: {figure}", rows)


async def measure_aio(address: str, chosen: Any) -> dict[str, list[Turn]]:
    """Let asyncio channels take turns."""
    ours = aio.client_interceptors(full_stack("aio interceptor"))
    channels = {
        "bare": bare_aio_channel(address),
        "ours, interceptor": bare_aio_channel(address, interceptors=ours),
        "ours, wrapped": wrap_channel(bare_aio_channel(address), full_stack("aio wrapped")),
    }
    calls = {
        name: partial(stub(channel), REQUEST, timeout=30.0) for name, channel in channels.items()
    }
    turns = {
        name: partial(crowd_aio, call, chosen.calls, chosen.callers) for name, call in calls.items()
    }
    return await take_turns_aio(turns, chosen.rounds)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=60, calls=500, callers=50)
    turn_metrics_on()
    with servers("aio bare") as addresses, ThreadPoolExecutor(chosen.callers) as pool:
        address = addresses["aio bare"]
        interceptors = client_interceptors(full_stack("interceptor"))
        channels = {
            "bare": bare_channel(address),
            "ours, interceptor": grpc.intercept_channel(bare_channel(address), *interceptors),
            "ours, wrapped": wrap_channel(bare_channel(address), full_stack("wrapped")),
        }
        calls = {
            name: partial(stub(channel), REQUEST, timeout=30.0)
            for name, channel in channels.items()
        }
        turns = {
            name: partial(crowd, call, pool, chosen.calls, chosen.callers)
            for name, call in calls.items()
        }
        title = f"{chosen.callers} callers"
        tell(f"sync client, {title}", take_turns(turns, chosen.rounds))
        tell(f"asyncio client, {title}", asyncio.run(measure_aio(address, chosen)))


if __name__ == "__main__":
    main()
