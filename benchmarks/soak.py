"""Many methods and targets for a while: does memory stay within bounds, and is all accounted for?

python benchmarks/soak.py [--seconds 120] [--methods 200] [--targets 50] [--virtual]

With `--virtual`, time passes by half a second for each five hundred calls.

Ends with 1 when it does not, or is not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tracemalloc

from ninelives_grpc import CircuitBreaker, Observer, Registry, Stack
from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.clock import MONOTONIC
from ninelives_grpc.errors import LocalError
from ninelives_grpc.events import CircuitRefused
from ninelives_grpc.outcome import Code, failed, succeeded
from ninelives_grpc.sinks import StreamingSink
from ninelives_grpc.testing import VirtualClock

BOUND = 60 * 1024
"""Bytes that a series may take."""
FAILING = 0.01
"""Share of the calls."""
STEP = 0.5
"""Seconds of virtual time that five hundred calls take."""


def main() -> int:
    """Make calls and events, and compare what is known of them in the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--methods", type=int, default=200)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--virtual", action="store_true", help="seconds are of virtual time")
    options = parser.parse_args()
    registry, rng = Registry(), random.Random(11)
    observer, stream = Observer(registry), StreamingSink()
    slow = stream.subscribe(lambda: None, name="slow")
    registry.attach(stream)
    virtual = VirtualClock()
    clock = virtual if options.virtual else MONOTONIC
    stack = Stack("shop", CircuitBreaker(), registry=registry, clock=clock)
    methods = [
        Method(f"shop.v1.Shop/M{method}", side=Side.CLIENT, target=f"host-{target}:443")
        for method in range(options.methods)
        for target in range(options.targets)
    ]
    error = LocalError("down", code=Code.UNAVAILABLE)
    calls = events = failures = 0
    tracemalloc.start()
    started = clock.now()
    while (now := clock.now()) < started + options.seconds:
        for method in rng.choices(methods, k=500):
            bad = rng.random() < FAILING
            call = Call(method, now - rng.lognormvariate(-4, 1))
            call.attempts = 1
            stack.recorder.ended(call, failed(error, 0.0) if bad else succeeded(0.0), now)
            calls, failures = calls + 1, failures + bad
        for _ in range(20):
            events += 1
            stack.emitter.emit(
                CircuitRefused(
                    stack="shop",
                    policy="circuit_breaker",
                    at=now,
                    reason="open",
                    key="",
                    retry_after=1.0,
                    cause="",
                )
            )
        virtual.advance(STEP)
    (found,) = observer.metrics(900.0).stacks
    size, _ = tracemalloc.get_traced_memory()
    figures = slow.figures()
    told = found.policies[0].refusals["open"] + observer.dropped
    heard = figures.queued + figures.delivered + figures.dropped
    checks = {
        "calls": (calls, found.traffic.calls),
        "calls by series": (calls, sum(each.traffic.calls for each in found.series)),
        "failures": (failures, found.traffic.failures),
        "events, observer": (events, told),
        "events, bus": (events + failures, heard),
    }
    for name, (made, counted) in checks.items():
        print(f"{name:20} {made:>12,} {counted:>12,} {'' if made == counted else 'LOST'}")
    each = size / len(found.series)
    print(f"{len(found.series):,} series, {found.overflowed:,} calls in _OTHER")
    print(
        f"{size / 2**20:.1f} MiB, {each / 1024:.1f} KiB a series; {figures.dropped:,} lost by bus"
    )
    good = each <= BOUND and all(made == counted for made, counted in checks.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
