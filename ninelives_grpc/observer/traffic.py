"""The calls of a window, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninelives_grpc.windows.sliding import CallSlot


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The calls of a window.

    Attributes:
        seconds: Time that is counted: up to a slot longer than the window that was asked for, or
            shorter when the stack is younger.
        calls: Calls that ended in it.
        successes: Calls that the backend answered, or a fallback did.
        failures: Calls that failed.
        refusals: Calls that a policy of ours refused.
        ignored: Calls that were cancelled, aborted, or turned away by an overloaded backend.
        attempts: What was sent to backends for these calls, repetitions and hedges included.
        answered: How many of the attempts a backend answered well.
        p50, p90, p95, p99: Seconds that so much of the calls did not exceed, refusals apart, or
            None.
    """

    seconds: float
    calls: int
    successes: int
    failures: int
    refusals: int
    ignored: int
    attempts: int
    answered: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None

    @property
    def calls_per_second(self) -> float:
        """How many calls ended in a second, on average."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def success_rate(self) -> float:
        """Share of calls that callers saw succeed, 0..1; 1 when there were none."""
        return self.successes / self.calls if self.calls else 1.0

    @property
    def backend_success_rate(self) -> float:
        """Share of attempts that backends answered well, 0..1; 1 when there were none."""
        return self.answered / self.attempts if self.attempts else 1.0

    @property
    def error_rate(self) -> float:
        """Share of calls that failed or were refused, 0..1, those that are ignored apart."""
        judged = self.successes + self.failures + self.refusals
        return (self.failures + self.refusals) / judged if judged else 0.0


def traffic_of(slot: CallSlot, seconds: float) -> Traffic:
    """Return the numbers of a slot that stands for so many seconds."""
    quantile = slot.durations.quantile
    return Traffic(
        seconds=seconds,
        calls=slot.calls,
        successes=slot.of("success"),
        failures=slot.of("failure"),
        refusals=slot.of("refused"),
        ignored=slot.of("ignored"),
        attempts=slot.attempts,
        answered=slot.answered,
        p50=quantile(0.50),
        p90=quantile(0.90),
        p95=quantile(0.95),
        p99=quantile(0.99),
    )
