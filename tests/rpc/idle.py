"""Stacks in which nothing acts, by the ways in which a call is followed.

What a protected channel or server does with them, a bare one must do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyLimit,
    EarlyDrop,
    Fault,
    Hedge,
    LoadShed,
    RateLimit,
    Retry,
    RetryBudget,
    Throttle,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLIENT: Mapping[str, Callable[[], Any]] = {
    "one-attempt": lambda: (
        Throttle() + Bulkhead(8) + CircuitBreaker() + RateLimit(1e6, burst=1e6) + Fault()
    ),
    "timeout-retry": lambda: Timeout(60.0) + Bulkhead(8) + Retry() + CircuitBreaker(),
    # What is not hedged, as it streams, is followed for its messages.
    "hedge": lambda: Timeout(60.0, idle=60.0) + Hedge(3600.0, idempotent=True) + ConcurrencyLimit(),
    # The other side is never paid for.
    "fallback": lambda: (
        Retry(max_attempts=1, budget=RetryBudget(threshold=1.0)) + (Bulkhead(8) | Bulkhead(8))
    ),
}
"""For clients."""
USUAL = ("one-attempt", "timeout-retry", "hedge")
"""Those that differ in how a call is followed; `fallback` is followed as a retry is."""
SERVER: Mapping[str, Callable[[], Any]] = {
    "gates": lambda: (
        Timeout(60.0)
        # Nothing is read, as that would go on for a while after each test.
        + LoadShed(sources=[])
        + CircuitBreaker(minimum_calls=1000)
        + EarlyDrop()
        + Bulkhead(64)
        + RateLimit(1e6, burst=1e6)
        + Fault()
    ),
    # A sync server with it has the executor that goes with it.
    "messages": lambda: (
        Timeout(60.0, idle=60.0) + AdmissionQueue() + ConcurrencyLimit(initial_limit=64)
    ),
}
"""For servers."""


def stacks(*names: str) -> Any:
    """Run a test with each of the stacks for clients, or those named, as `policies`."""
    chosen = [pytest.param(CLIENT[name], id=name) for name in names or CLIENT]
    return pytest.mark.parametrize("policies", chosen)
