"""What a unary call costs more with us, and with others, than without: ratios to bare gRPC.

    pip install -r benchmarks/requirements.txt
    python benchmarks/overhead.py [--rounds 300] [--calls 20] [--callers 1]

The servers run in processes of their own. All variants take turns within each round; a row is the
median over the rounds of the time for one call, and of its ratio to the bare variant of the same
round. Ours run with OpenTelemetry metrics on, in the SDK, collected every second, and with the full
stack: timeout, retry with budget, circuit breaker, bulkhead and rate limit. Read the ratios: the
microseconds are this machine's.

The first table has no gRPC in it: a concurrency limit against a static bulkhead, each admitting and
settling one call, in one thread.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import Any

from measure import (
    REQUEST,
    SERVERS,
    Rows,
    bare_channel,
    options,
    report,
    servers,
    take_turns,
    take_turns_aio,
    timed,
    timed_aio,
    turn_metrics_on,
)
from variants import Variant, aio_variants, sync_variants

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    Call,
    ConcurrencyLimit,
    EarlyDrop,
    LoadShed,
    Method,
    Registry,
    Stack,
    Throttle,
)
from ninelives_grpc.outcome import succeeded


def measure(variants: dict[str, Variant], chosen: Any) -> Rows:
    """Let sync clients take turns."""
    turns = {
        name: partial(
            timed, partial(variant.call(), REQUEST, timeout=5.0), chosen.calls, chosen.callers
        )
        for name, variant in variants.items()
    }
    return take_turns(turns, chosen.rounds)


async def measure_aio(address: str, chosen: Any) -> Rows:
    """Let asyncio clients take turns."""
    variants = aio_variants(address)
    turns = {
        name: partial(
            timed_aio, partial(variant.call(), REQUEST, timeout=5.0), chosen.calls, chosen.callers
        )
        for name, variant in variants.items()
    }
    rows = await take_turns_aio(turns, chosen.rounds)
    for variant in variants.values():
        await variant.channel.close()
    return rows


def measure_gates(rounds: int) -> None:
    """Print what it costs to admit and settle a call, by gate, and what that is above the first."""
    call, outcome = Call(Method("bench.Echo/Say"), 0.0), succeeded(0.001)
    costs: dict[str, list[float]] = {}
    stacks = [
        Stack("gates", policy, registry=Registry())
        for policy in (
            Bulkhead(1000),
            AdmissionQueue(1000),
            ConcurrencyLimit(),
            ConcurrencyLimit(algorithm="aimd"),
            Throttle(),
            Throttle(algorithm="sre"),
            EarlyDrop(gauge=float),
            LoadShed(memory_limit=1 << 50),
        )
    ]
    for second in range(rounds):
        for stack in stacks:
            (gate,) = stack.plan.gates
            admit, settle, started = gate.admit, gate.settle, time.thread_time()
            for number in range(1000):
                # Answers come a thousand times a second, so that windows are judged in between.
                now = second + number / 1000
                settle(admit(call, now, None), outcome, now)  # type: ignore[arg-type]
            took = (time.thread_time() - started) * 1e3
            costs.setdefault(repr(gate.policy), []).append(took)
    first = next(iter(costs.values()))
    print("\nadmit and settle")
    for name, taken in costs.items():
        more = statistics.median(a - b for a, b in zip(taken, first, strict=True))
        ratio = statistics.median(a / b for a, b in zip(taken, first, strict=True))
        print(f"  {name:40}{statistics.median(taken):8.2f} µs{ratio:8.2f}{more:+8.2f} µs")


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rounds=300, calls=20, callers=1)
    measure_gates(chosen.rounds)
    turn_metrics_on()
    with servers(*SERVERS) as addresses:
        bare = addresses["sync bare"]
        report("sync client, sync server", measure(sync_variants(bare), chosen))
        report("asyncio client, sync server", asyncio.run(measure_aio(bare, chosen)))
        for side in ("sync", "aio"):
            variants = {
                which: Variant(bare_channel(address))
                for which, address in addresses.items()
                if which.startswith(side)
            }
            rows = measure(variants, chosen)
            report(f"{side} server, sync client", rows, f"{side} bare")


if __name__ == "__main__":
    main()
