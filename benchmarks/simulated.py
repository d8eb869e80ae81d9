"""The simulation of what `overload.py` measures: the same calls, to the same policies."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from load import AFTER, BEFORE, DEADLINE, SERVICE, Calls, back_after
from rushed import LIMIT, NATIVE, NOTHING, PLACES, QUEUE, SPARE, Happening
from storm import ATTEMPT_TIMEOUT, ATTEMPTS, BACKOFF, CLIENTS

from ninelives_grpc.simulation import (
    Phase,
    Result,
    Scenario,
    Server,
    Service,
    Traffic,
    simulate,
    stack_source,
)


def simulated_rush(
    variant: str, slower: float, seconds: float, calls: Calls
) -> tuple[float, float]:
    """Simulate a rush, and return how much was good, and when all was again."""
    phases = (BEFORE, 1.0), (seconds, slower), (AFTER, 1.0)
    scenario = Scenario(
        name="rush",
        service=Service(mean=SERVICE),
        server=Server(workers=PLACES, skips_expired=True),
        traffic=Traffic(deadline=DEADLINE),
        phases=tuple(Phase(seconds=each, slower=slower) for each, slower in phases),
        stack=source_of(variant),
        arrivals=tuple((at, 0, took) for at, took in calls),
    )
    result = simulate(scenario)
    end = BEFORE + seconds
    return result.goodput(BEFORE, end), simulated_back(result, end)


def simulated_storm(
    variant: str, caller: str, outage: Happening, calls: Calls
) -> tuple[float, float]:
    """Simulate the same where that can be, and return attempts and when all was well again."""
    retry = {"max_attempts": ATTEMPTS, "initial_backoff": BACKOFF, "idempotent": True}
    table: dict[str, Any] = {
        "expression": "retry + timeout",
        "retry": retry,
        "timeout": {"seconds": ATTEMPT_TIMEOUT},
    }
    if caller not in {"no retries", "retry and budget"}:
        return math.nan, math.nan
    if caller == "no retries":
        table = {"expression": "timeout", "timeout": {"seconds": DEADLINE}}
    scenario = Scenario(
        name="storm",
        service=Service(mean=SERVICE),
        server=Server(workers=PLACES, skips_expired=True),
        traffic=Traffic(deadline=DEADLINE, clients=CLIENTS),
        phases=(
            Phase(seconds=BEFORE),
            Phase(seconds=outage.seconds, dead=outage.fails, stalled=outage.hangs),
            Phase(seconds=AFTER),
        ),
        stack=source_of(variant),
        client=stack_source(table, "client"),
        arrivals=tuple((at, 0, took) for at, took in calls),
    )
    result = simulate(scenario)
    end = BEFORE + outage.seconds
    return result.amplification(BEFORE, end), simulated_back(result, end)


def source_of(variant: str) -> Any:
    """Return the stack of a variant, as a configuration says it."""
    if variant == NOTHING:
        return None
    kind, table = "concurrency_limit", {"algorithm": variant}
    if variant in {"bulkhead", NATIVE}:
        kind, table = "bulkhead", {"max_concurrent": SPARE}
    elif variant == QUEUE:
        kind, table = "admission_queue", {"width": PLACES}
    elif variant == LIMIT:
        table = {}
    return stack_source({"expression": kind, kind: table}, variant)


def simulated_back(result: Result, end: float) -> float:
    """Return when all simulated calls were served again."""
    bad = [
        (before.at + after.at) / 2.0
        for before, after in pairwise(result.samples)
        if any(
            sum(getattr(after.counts, name)) > sum(getattr(before.counts, name))
            for name in ("late", "refused", "failed")
        )
    ]
    return back_after(bad, end, AFTER)
