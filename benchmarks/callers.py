"""What fifty callers at once notice, or one: latency, and CPU time of the client's process.

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

from measure import (
    REQUEST,
    SERVERS,
    bare_channel,
    options,
    report,
    servers,
    take_turns,
    take_turns_aio,
    turn_metrics_on,
)
from variants import Variant, aio_variants, sync_variants


class Turn(NamedTuple):
    """What one turn showed, all in microseconds."""

    p50: float
    p99: float
    cpu: float


Turns = dict[str, list[Turn]]


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


def tell(title: str, turns: Turns, bare: str = "bare") -> None:
    """Print a table for each figure."""
    for figure in Turn._fields:
        rows = {name: [getattr(turn, figure) for turn in row] for name, row in turns.items()}
        report(f"{title}: {figure}", rows, bare)


def measure(variants: dict[str, Variant], pool: ThreadPoolExecutor, chosen: Any) -> Turns:
    """Let sync clients take turns."""
    turns = {
        name: partial(
            crowd,
            partial(variant.call(), REQUEST, timeout=30.0),
            pool,
            chosen.calls,
            chosen.callers,
        )
        for name, variant in variants.items()
    }
    return take_turns(turns, chosen.rounds)


async def measure_aio(address: str, chosen: Any) -> Turns:
    """Let asyncio clients take turns."""
    variants = aio_variants(address)
    size = (chosen.calls, chosen.callers)
    turns = {
        name: partial(crowd_aio, partial(variant.call(), REQUEST, timeout=30.0), *size)
        for name, variant in variants.items()
    }
    rows = await take_turns_aio(turns, chosen.rounds)
    for variant in variants.values():
        await variant.channel.close()
    return rows


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=60, calls=500, callers=50)
    turn_metrics_on()
    title = f"{chosen.callers} callers" if chosen.callers > 1 else "1 caller"
    with servers(*SERVERS) as addresses, ThreadPoolExecutor(chosen.callers) as pool:
        address = addresses["aio bare"]
        tell(f"sync client, {title}", measure(sync_variants(address), pool, chosen))
        tell(f"asyncio client, {title}", asyncio.run(measure_aio(address, chosen)))
        for side in ("sync", "aio"):
            served = {
                which: Variant(bare_channel(address))
                for which, address in addresses.items()
                if which.startswith(side)
            }
            tell(f"{side} server, {title}", measure(served, pool, chosen), f"{side} bare")


if __name__ == "__main__":
    main()
