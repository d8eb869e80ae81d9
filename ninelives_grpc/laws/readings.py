"""Reads a stack for a law: the calls since it last looked, and how full policies are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ninelives_grpc.events import KINDS
from ninelives_grpc.laws.metrics import Level, Metrics
from ninelives_grpc.policies.budget import BudgetFlow
from ninelives_grpc.policies.circuit_breaker import CircuitBreakerGate
from ninelives_grpc.policies.gate import Gate
from ninelives_grpc.policies.rate_limit import RateLimitGate

if TYPE_CHECKING:
    from ninelives_grpc.laws.metrics import Gauge
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.stacks.stack import Stack


class Readings:
    """What happens in one stack, from one reading to the next.

    Args:
        stack: The stack.
        target: The policy that is steered, for how much of it is used.
        gauge: What else is read, or None; it does not raise.
        now: The time.
    """

    def __init__(self, stack: Stack, target: Live[Any], gauge: Gauge | None, now: float) -> None:
        self._stack = stack
        self._target = target
        self._gauge = gauge
        self._began = now
        self._reader = stack.recorder.follow(now)
        self._breakers = [
            live
            for live in ([target] if isinstance(target, CircuitBreakerGate) else _lives(stack))
            if isinstance(live, CircuitBreakerGate)
        ]
        self._refused = self._refused_by_now = self._refusals()
        self._recovered = self._recovered_by_now = self._recoveries()

    @property
    def since(self) -> float:
        """When the reading began that goes on."""
        return self._reader.since

    def read(self, now: float, horizon: float | None = None) -> Metrics:
        """Return the numbers of the reading so far, or of the last so many seconds.

        Args:
            now: The time.
            horizon: 60, 300 or 900 for the calls of a window in place of the reading's.
        """
        recorder = self._stack.recorder
        traffic, mean = recorder.read(self._reader, now)
        seconds = max(now - self.since, 1e-9)
        self._refused_by_now = self._refusals()
        self._recovered_by_now = self._recoveries()
        refused = self._refused_by_now - self._refused
        levels = {live.name: level for live in _lives(self._stack) if (level := _level(live))}
        ran = (traffic.calls - traffic.refusals) / seconds
        return Metrics(
            at=now,
            age=now - max(recorder.ended_at or self._began, self._began),
            traffic=traffic if horizon is None else recorder.traffic(horizon, now),
            mean=mean,
            refused_by=refused,
            levels=levels,
            budget_left=_budget_left(self._stack, now),
            used=self._used(ran, ran * (mean or 0.0), refused[self._target.name]),
            recoveries=self._recovered_since(),
            gauge=None if self._gauge is None else self._gauge(),
        )

    def restart(self, now: float) -> None:
        """Begin a reading, with what came after the last look."""
        self._stack.recorder.restart(self._reader, now)
        self._refused, self._recovered = self._refused_by_now, self._recovered_by_now

    def skip(self, now: float) -> None:
        """Begin a reading, and leave out what came before."""
        self._stack.recorder.read(self._reader, now)
        self._refused_by_now, self._recovered_by_now = self._refusals(), self._recoveries()
        self.restart(now)

    def close(self) -> None:
        """Read no more."""
        self._stack.recorder.leave(self._reader)

    def _refusals(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (policy, event), count in self._stack.emitter.counts.items():
            kind = KINDS.get(event)
            if kind is not None and kind.refuses:
                found[policy] += count
        return found

    def _recoveries(self) -> list[int]:
        return [live.recovered for live in self._breakers]

    def _recovered_since(self) -> tuple[float, ...]:
        found: list[float] = []
        counts = zip(self._breakers, self._recovered, self._recovered_by_now, strict=True)
        for live, before, now in counts:
            if now > before:
                found.extend(tuple(live.recoveries)[before - now :])
        return tuple(found)

    def _used(self, rate: float, concurrency: float, refused: int) -> float | None:
        """Return how much of what the target limits is in use, 0..1."""
        live = self._target
        if isinstance(live, RateLimitGate):
            return 1.0 if refused else min(1.0, rate / live.policy.rate)
        level = _level(live)
        if level is None:
            return None
        if refused or level.queued:
            return 1.0
        # Who looks now and then sees no peaks, but the mean is known of all the time in between.
        return min(1.0, max(level.in_flight, concurrency) / max(level.limit, 1))


def _lives(stack: Stack) -> list[Live[Any]]:
    return list(stack.policies.values())


def _level(live: Live[Any]) -> Level | None:
    """Return how full a gate is that tells of a limit, and None of anything else."""
    limit = getattr(live, "limit", None) if isinstance(live, Gate) else None
    if limit is None:
        return None
    in_flight: int = live.in_flight  # type: ignore[attr-defined]
    return Level(in_flight=in_flight, limit=limit, queued=getattr(live, "queued", 0))


def _budget_left(stack: Stack, now: float) -> float | None:
    for live in stack.policies.values():
        if isinstance(live, BudgetFlow):
            left = live.state(now)["left"]
            return None if left is None else float(left)
    return None
