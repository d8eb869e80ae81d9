"""One circuit: closed, open, half-open, and the rules that lead from one to the other.

Pure: the time comes in, the breaker around it holds a lock, and what happened comes back as words
that the breaker turns into events.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.errors import LocalError
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.policies.gate import Permit
from ninelives_grpc.windows.outcomes import (
    CountWindow,
    OutcomeWindow,
    TimeWindow,
    wilson_lower_bound,
)

if TYPE_CHECKING:
    from ninelives_grpc.policies.circuit_breaker import CircuitBreaker


class CircuitState(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Happened(StrEnum):
    """What a circuit did in answer to a call, for the breaker to publish."""

    OPENED = "opened"
    HALF_OPENED = "half_opened"
    CLOSED = "closed"
    RECLAIMED = "reclaimed"


class Opening(NamedTuple):
    """What opened a circuit."""

    reason: str
    calls: int
    failures: int
    slow: int

    @property
    def failure_rate(self) -> float:
        """Share of those calls that failed, 0..1."""
        return self.failures / self.calls if self.calls else 0.0


class CircuitPermit(Permit):
    """Leave that remembers when it was given.

    Attributes:
        circuit: Who gave it.
        generation: The circuit's generation then; an outcome of another generation comes too late.
        lease_end: For a probe, when it is given up for lost; otherwise None.
    """

    __slots__ = ("circuit", "generation", "lease_end")

    def __init__(self, circuit: Circuit, generation: int, lease_end: float | None = None) -> None:
        self.circuit = circuit
        self.generation = generation
        self.lease_end = lease_end


class Circuit:
    """The state of one key.

    Attributes:
        key: Which of the breaker's circuits it is, "" for the only one.
        state: Closed, open or half-open.
        generation: Counts the changes of state, so that late outcomes are told from current ones.
        open_until: When the next probe may go, while open.
        cause: What the failure that opened it said.
        opening: What was judged when it opened last.
        window: Recent outcomes, while closed.
        permit: What attempts get while it is closed; another one after each change of state.
        run: Failures in a row.
        down: Seconds that the backend was down, as far as known, when it closed last.
    """

    __slots__ = (
        "_closed_at",
        "_opened_at",
        "_openings",
        "_probe_failures",
        "_probe_slow",
        "_probes_done",
        "_reopened_at",
        "cause",
        "down",
        "generation",
        "key",
        "open_until",
        "opening",
        "permit",
        "probes",
        "run",
        "state",
        "window",
    )

    def __init__(self, key: str, policy: CircuitBreaker) -> None:
        self.key = key
        self.state = CircuitState.CLOSED
        self.generation = 0
        self.open_until = 0.0
        self.opening = Opening("", 0, 0, 0)
        self.cause: LocalError | None = None
        self.window: OutcomeWindow = (
            TimeWindow(policy.window_size, policy.window_age)
            if policy.window == "time"
            else CountWindow(policy.window_size, policy.window_age)
        )
        self.probes: list[CircuitPermit] = []
        self._openings = 0
        self._closed_at: float | None = None
        self._opened_at: float | None = None
        self._reopened_at = self.down = 0.0
        self.run = 0
        self._probes_done = self._probe_failures = self._probe_slow = 0
        self.permit = CircuitPermit(self, 0)

    def admit(
        self, policy: CircuitBreaker, now: float, happened: list[Happened]
    ) -> CircuitPermit | None:
        """Give leave for one attempt, or None."""
        if self.probes or self._probes_done:
            self._reclaim(policy, now, happened)
        if self.state is CircuitState.CLOSED:
            return self.permit
        if self.state is CircuitState.OPEN:
            if now < self.open_until:
                return None
            self._enter(CircuitState.HALF_OPEN)
            happened.append(Happened.HALF_OPENED)
        running = len(self.probes)
        if running >= policy.half_open_concurrency:
            return None
        if running + self._probes_done >= policy.half_open_permits:
            return None
        probe = CircuitPermit(self, self.generation, now + policy.probe_lease)
        self.probes.append(probe)
        return probe

    def settle(
        self,
        policy: CircuitBreaker,
        permit: Permit,
        outcome: Outcome,
        kind: Kind,
        now: float,
        happened: list[Happened],
    ) -> None:
        """Learn from the outcome of an attempt, unless it comes too late."""
        assert type(permit) is CircuitPermit
        if permit.generation != self.generation:
            return
        slow_after = policy.slow_call_duration
        slow = slow_after is not None and outcome.duration >= slow_after
        if self.state is CircuitState.HALF_OPEN:
            if permit not in self.probes:
                return
            self.probes.remove(permit)
            if kind is not Kind.IGNORED:
                self._judge_probe(policy, kind is Kind.FAILURE, slow, outcome, now, happened)
            return
        if kind is Kind.IGNORED:
            return
        if self.state is CircuitState.OPEN:
            # It was let through by an override of the mode.
            return
        failed = kind is Kind.FAILURE
        self.run = self.run + 1 if failed else 0
        self.window.add(now, failed, slow)
        opening = self._tripped(policy, now) if failed or slow else None
        if opening is not None:
            self._open(policy, opening, outcome, now, happened)

    def record(
        self, policy: CircuitBreaker, permit: Permit, outcome: Outcome, kind: Kind, now: float
    ) -> None:
        """Take an outcome into the window without drawing a conclusion from it."""
        assert type(permit) is CircuitPermit
        if permit.generation != self.generation:
            return
        self.probes = [probe for probe in self.probes if probe is not permit]
        if kind is not Kind.IGNORED:
            self.run = self.run + 1 if kind is Kind.FAILURE else 0
            slow_after = policy.slow_call_duration
            slow = slow_after is not None and outcome.duration >= slow_after
            self.window.add(now, kind is Kind.FAILURE, slow)

    def reset(self) -> None:
        """Forget everything: closed, and the next opening is the first."""
        self._openings = 0
        self._closed_at = self._opened_at = None
        self.cause = None
        self._enter(CircuitState.CLOSED)

    def retry_after(self, policy: CircuitBreaker, now: float) -> float:
        """Return the seconds after which a call has a chance."""
        if self.state is CircuitState.OPEN:
            return max(0.0, self.open_until - now)
        return policy.open_duration

    def _tripped(self, policy: CircuitBreaker, now: float) -> Opening | None:
        limit = policy.consecutive_failures
        calls, failures, slow = self.window.tally(now)
        if limit is not None and self.run >= limit:
            return Opening("consecutive_failures", self.run, self.run, slow)
        if calls < policy.minimum_calls:
            return None
        z = policy.confidence
        if wilson_lower_bound(failures, calls, z) > policy.failure_rate_threshold:
            return Opening("failure_rate", calls, failures, slow)
        if policy.slow_call_duration is None:
            return None
        if wilson_lower_bound(slow, calls, z) > policy.slow_call_rate_threshold:
            return Opening("slow_call_rate", calls, failures, slow)
        return None

    def _judge_probe(
        self,
        policy: CircuitBreaker,
        failed: bool,
        slow: bool,
        outcome: Outcome | None,
        now: float,
        happened: list[Happened],
    ) -> None:
        self._probes_done += 1
        self._probe_failures += failed
        self._probe_slow += slow
        permits = policy.half_open_permits
        opening = self._bad_probes(policy)
        if opening is not None:
            self._open(policy, opening, outcome, now, happened)
        elif self._probes_done >= permits:
            self._close(now, happened)

    def _bad_probes(self, policy: CircuitBreaker) -> Opening | None:
        permits, failures, slow = policy.half_open_permits, self._probe_failures, self._probe_slow
        if failures > 0 and failures / permits >= policy.failure_rate_threshold:
            return Opening("probe_failures", self._probes_done, failures, slow)
        if slow > 0 and slow / permits >= policy.slow_call_rate_threshold:
            return Opening("probe_slowness", self._probes_done, failures, slow)
        return None

    def _reclaim(self, policy: CircuitBreaker, now: float, happened: list[Happened]) -> None:
        """Count probes that never reported back as failed, and see whether so many do by now."""
        for probe in [probe for probe in self.probes if now >= (probe.lease_end or now)]:
            if self.state is not CircuitState.HALF_OPEN:
                break
            self.probes.remove(probe)
            happened.append(Happened.RECLAIMED)
            self._judge_probe(policy, True, False, None, now, happened)  # noqa: FBT003
        # Fewer permits, or another threshold, may decide without another probe.
        opening = self._bad_probes(policy) if self._probes_done else None
        if opening is not None:
            cause = self.cause
            self._open(policy, opening, None, now, happened)
            self.cause = cause
        elif self._probes_done >= policy.half_open_permits:
            self._close(now, happened)

    def _close(self, now: float, happened: list[Happened]) -> None:
        self._closed_at = now
        if self._opened_at is not None:
            # It came back at some time between the last probe that failed and now.
            self.down = (self._reopened_at + now) / 2.0 - self._opened_at
        self._opened_at = None
        self._enter(CircuitState.CLOSED)
        happened.append(Happened.CLOSED)

    def _open(
        self,
        policy: CircuitBreaker,
        opening: Opening,
        outcome: Outcome | None,
        now: float,
        happened: list[Happened],
    ) -> None:
        self.opening = opening
        closed_at = self._closed_at
        if closed_at is not None and now - closed_at >= policy.healthy_after:
            self._openings = 0
        self._closed_at = None
        if self._opened_at is None:
            self._opened_at = now
        self._reopened_at = now
        duration = min(policy.open_duration * 2.0**self._openings, policy.max_open_duration)
        # Not more than needed: 2.0 ** 1024 does not exist.
        self._openings = min(self._openings + 1, 64)
        duration *= 1 + policy.jitter * random.uniform(-1, 1)
        if outcome is None:
            self.cause = LocalError("a probe did not report back", code=Code.DEADLINE_EXCEEDED)
        else:
            duration = max(duration, outcome.pushback or 0.0)
            self.cause = _summary(outcome)
        self.open_until = now + duration
        self._enter(CircuitState.OPEN)
        happened.append(Happened.OPENED)

    def _enter(self, state: CircuitState) -> None:
        self.state = state
        self.generation += 1
        self.permit = CircuitPermit(self, self.generation)
        self.window.clear()
        self.probes = []
        self.run = 0
        self._probes_done = self._probe_failures = self._probe_slow = 0


def _summary(outcome: Outcome) -> LocalError:
    """Keep what the error said and not the error: its traceback would hold on to the request."""
    error = outcome.error
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return LocalError(text or outcome.code.name, code=outcome.code)
