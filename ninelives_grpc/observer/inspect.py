"""How full, how empty and how open policies are right now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.policies.admission_queue import AdmissionQueueGate
from ninelives_grpc.policies.budget import BudgetFlow
from ninelives_grpc.policies.bulkhead import BulkheadGate
from ninelives_grpc.policies.circuit_breaker import CircuitBreakerGate
from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimitGate
from ninelives_grpc.policies.early_drop import EarlyDropGate
from ninelives_grpc.policies.load_shed import LoadShedGate
from ninelives_grpc.policies.rate_limit import RateLimitGate

if TYPE_CHECKING:
    from ninelives_grpc.policies.policy import Live

MAX_CIRCUITS = 100
"""Circuits of one breaker that are told one by one, those used last."""


def inspected(live: Live[Any], now: float) -> tuple[float | None, float | None]:
    """Return how much of a limit is used, 0..1, and how much of a budget is left, or None."""
    if isinstance(live, BulkheadGate):
        return live.in_flight / live.policy.max_concurrent, None
    if isinstance(live, AdmissionQueueGate | ConcurrencyLimitGate | EarlyDropGate):
        return live.fill(), None
    if isinstance(live, LoadShedGate):
        return live.pressure, None
    if isinstance(live, RateLimitGate):
        available = live.state(now).get("available")
        used = None if available is None else 1.0 - float(available) / live.policy.burst
        return used, None
    if isinstance(live, BudgetFlow):
        left = live.state(now)["left"]
        return None, None if left is None else float(left)
    return None, None


def circuits_of(live: Live[Any], now: float) -> dict[str, str]:
    """Return the state of the circuits of a breaker by key; of anything else there are none."""
    if not isinstance(live, CircuitBreakerGate):
        return {}
    circuits = live.circuits(now)
    return {key: str(circuits[key]["state"]) for key in tuple(circuits)[-MAX_CIRCUITS:]}
