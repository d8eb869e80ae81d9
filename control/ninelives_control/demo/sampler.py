"""What each stack has done in the last two seconds: the numbers of the live table."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_grpc.observer.recorder import REFUSED
from ninelives_grpc.outcome import Kind
from ninelives_grpc.policies.bulkhead import BulkheadGate
from ninelives_grpc.policies.circuit_breaker import CircuitBreakerGate
from ninelives_grpc.windows.sketch import Sketch

if TYPE_CHECKING:
    from ninelives_grpc import Registry, Stack
    from ninelives_grpc.observer.recorder import Totals

_WINDOW = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stack right now.

    Attributes:
        stack: Its name.
        state: Of its circuit, or how full its bulkhead is.
        calls: Calls a second.
        success: Share that was answered, 0..1, or None when there were no calls.
        refusals: Refusals a second.
        p50, p99: Seconds, or None when there were no calls.
    """

    stack: str
    state: str
    calls: float
    success: float | None
    refusals: float
    p50: float | None
    p99: float | None


class Sampler:
    """Compares the totals of all stacks with those of two seconds ago."""

    def __init__(self, registry: Registry) -> None:
        """Start with nothing to compare with."""
        self._registry = registry
        self._past: deque[tuple[float, dict[str, Totals]]] = deque()

    def rows(self) -> list[Row]:
        """Return a row for each stack."""
        now = time.monotonic()
        totals = {stack.name: stack.recorder.totals() for stack in self._registry}
        self._past.append((now, totals))
        while now - self._past[0][0] > _WINDOW:
            self._past.popleft()
        then, before = self._past[0]
        seconds = max(now - then, 1e-3)
        return [
            _row(stack, totals[stack.name], before.get(stack.name), seconds)
            for stack in self._registry
        ]


def _row(stack: Stack, totals: Totals, before: Totals | None, seconds: float) -> Row:
    results: Counter[str] = Counter()
    durations: Counter[int] = Counter()
    for ending, count in totals.calls.items():
        results[ending.result] += count - (before.calls[ending] if before else 0)
    for (ending, bucket), count in totals.durations.items():
        durations[bucket] += count - (before.durations[ending, bucket] if before else 0)
    calls, sketch = results.total(), Sketch()
    sketch.put(durations, 0.0)
    return Row(
        stack=stack.name,
        state=_state(stack),
        calls=calls / seconds,
        success=results[Kind.SUCCESS.value] / calls if calls else None,
        refusals=results[REFUSED] / seconds,
        p50=sketch.quantile(0.50),
        p99=sketch.quantile(0.99),
    )


def _state(stack: Stack) -> str:
    now = stack.clock.now()
    for live in stack.policies.values():
        if isinstance(live, CircuitBreakerGate):
            return str(live.state(now)["state"])
    for live in stack.policies.values():
        if isinstance(live, BulkheadGate):
            return f"{live.in_flight} of {live.policy.max_concurrent}"
    return ""
