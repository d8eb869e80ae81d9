"""What a policy weighs, and what each of its keys does: bytes of Python's own allocations.

python benchmarks/memory.py [--keys 10000]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

from measure import full_stack

from ninelives_grpc import Bulkhead, Call, CircuitBreaker, Kind, Method, Outcome, RateLimit
from ninelives_grpc.clock import MONOTONIC
from ninelives_grpc.events import Emitter
from ninelives_grpc.outcome import Code
from ninelives_grpc.policies.gate import Permit
from ninelives_grpc.policies.policy import Address, Policy
from ninelives_grpc.windows.sliding import CallSlot, SlidingWindow

ADDRESS = Address(stack="memory", policy="gate", emitter=Emitter("memory"), now=MONOTONIC.now)


def weight(make: Callable[[int], object], count: int) -> float:
    """Return the bytes that each of so many things takes."""
    made: list[object] = [None] * count
    make(0)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        made[number] = make(number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count


def running(policy: Callable[[], Policy]) -> Callable[[int], object]:
    """Make running policies, each with its snapshot of values."""
    return lambda _: policy().live(ADDRESS)


def visited(gate: Any, calls: int) -> Callable[[int], object]:
    """Let so many calls of a new key pass, one a millisecond."""
    time = itertools.count(1000.0, 0.001)

    def visit(number: int) -> None:
        call = Call(Method(f"/shop.Cart/Method{number}"), 1000.0)
        for _ in range(calls):
            now = next(time)
            permit = gate.admit(call, now, None)
            assert isinstance(permit, Permit)
            gate.settle(permit, Outcome(Kind.SUCCESS, Code.OK, 0.01), now)

    return visit


def observed() -> Callable[[int], object]:
    """Fill the windows of a method, fifteen minutes of durations over three decades."""
    rng = random.Random(3)

    def observe(_: int) -> SlidingWindow[CallSlot]:
        window = SlidingWindow(CallSlot)
        for second in range(960):
            slot = window.slot(float(second))
            slot.add("success", 20, 20, 20)
            slot.durations.extend(10 ** rng.uniform(-3, 0) for _ in range(20))
        return window

    return observe


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Bytes a policy and a key take.")
    parser.add_argument("--keys", type=int, default=10_000)
    keys = parser.parse_args().keys

    def breaker(**more: Any) -> Any:
        return CircuitBreaker(scope="method", max_keys=2 * keys, **more).live(ADDRESS)

    limiter = RateLimit(1e9, 1e6, scope="method", max_keys=2 * keys).live(ADDRESS)
    rows = {
        "circuit breaker": (running(CircuitBreaker), 1000),
        "rate limit": (running(lambda: RateLimit(100.0)), 1000),
        "bulkhead": (running(lambda: Bulkhead(64)), 1000),
        "stack of five policies": (lambda number: full_stack(f"stack-{number}"), 200),
        "circuit breaker: a key, 1 call": (visited(breaker(), 1), keys),
        "circuit breaker: a key, 100 calls": (visited(breaker(), 100), keys // 10),
        "circuit breaker, by time: a key, 100 calls": (
            visited(breaker(window="time"), 100),
            keys // 10,
        ),
        "rate limit: a key": (visited(limiter, 1), keys),
        "observed method and target, 15 minutes": (observed(), 50),
    }
    print(f"{'':44}{'bytes':>8}")
    for name, (make, count) in rows.items():
        print(f"{name:44}{weight(make, count):8.0f}")


if __name__ == "__main__":
    main()
