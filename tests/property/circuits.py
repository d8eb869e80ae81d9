"""What a circuit is to do, said a second time: lists instead of windows, no haste."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

import math

from ninelives_grpc.outcome import Kind


def surely_above(hits, total, threshold, z):
    """Tell whether a ratio is above a threshold with confidence: Wilson's interval, as a root.

    The ends of the interval are the rates p at which (hits/total - p)² = z² p (1 - p) / total.
    """
    if not z:
        return hits / total > threshold
    ratio, spread = hits / total, z * z / total
    a, b, c = 1 + spread, -(2 * ratio + spread), ratio * ratio
    return (-b - math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a) > threshold


class CircuitModel:
    """One circuit.

    Attributes:
        state: Closed, open or half-open.
        age: Counts the changes of state.
        calls: The window, as (time, failed, slow).
        run: Failures in a row.
        probes: Probes that run, as (permit, end of the lease).
        judged: Probes that came back, as (failed, slow).
        open_until: When probes may go, as the circuit under test has chosen within `bounds`.
        bounds: The shortest and the longest time that it may be open for.
    """

    def __init__(self):
        self.openings = self.age = 0
        self.closed_at = None
        self.open_until = 0.0
        self.enter("closed")

    def enter(self, state):
        self.state = state
        self.age += 1
        self.calls, self.probes, self.judged = [], [], []
        self.run = 0

    def reset(self):
        self.openings, self.closed_at = 0, None
        self.enter("closed")

    def trim(self, policy, now):
        """Let go of what is too old or too much, as a window does that is narrowed."""
        recent = [call for call in self.calls if call[0] >= now - policy.window_age]
        self.calls = recent[-policy.window_size :]

    def admits(self, policy, now):
        """Tell whether a call may pass; in a circuit that is not closed it is a probe."""
        self.reclaim(policy, now)
        if self.state == "open" and now >= self.open_until:
            self.enter("half_open")
        if self.state == "half_open":
            free = policy.half_open_permits - len(self.judged) - len(self.probes)
            return free > 0 and len(self.probes) < policy.half_open_concurrency
        return self.state == "closed"

    def reclaim(self, policy, now):
        for permit, lease_end in self.probes[:]:
            if self.state == "half_open" and now >= lease_end:
                self.probes.remove((permit, lease_end))
                self.judge(policy, True, False, 0.0, now)  # noqa: FBT003
        if self.state == "half_open" and self.judged:
            # Parameters may have changed since.
            self.decide(policy, 0.0, now)

    def probe_ends(self, policy, permit, outcome, kind, now):
        """Give the place of a probe back, and learn from it if there is something to learn."""
        self.probes = [probe for probe in self.probes if probe[0] is not permit]
        if kind is not Kind.IGNORED:
            slow = self.is_slow(policy, outcome)
            self.judge(policy, kind is Kind.FAILURE, slow, outcome.pushback or 0.0, now)

    def call_ends(self, policy, outcome, kind, now, *, heeded):
        """Take in an outcome while closed; whether it may open depends on the mode."""
        if kind is Kind.IGNORED:
            return
        failed, slow = kind is Kind.FAILURE, self.is_slow(policy, outcome)
        self.calls.append((now, failed, slow))
        self.trim(policy, now)
        self.run = self.run + 1 if failed else 0
        if heeded and (failed or slow) and self.is_bad(policy):
            self.open(policy, outcome.pushback or 0.0, now)

    def is_slow(self, policy, outcome):
        return policy.slow_call_duration is not None and (
            outcome.duration >= policy.slow_call_duration
        )

    def is_bad(self, policy):
        if policy.consecutive_failures is not None and self.run >= policy.consecutive_failures:
            return True
        total, z = len(self.calls), policy.confidence
        if total < policy.minimum_calls:
            return False
        failed = sum(call[1] for call in self.calls)
        slow = sum(call[2] for call in self.calls) if policy.slow_call_duration is not None else 0
        return surely_above(failed, total, policy.failure_rate_threshold, z) or (
            slow > 0 and surely_above(slow, total, policy.slow_call_rate_threshold, z)
        )

    def judge(self, policy, failed, slow, pushback, now):
        self.judged.append((failed, slow))
        self.decide(policy, pushback, now)

    def decide(self, policy, pushback, now):
        failures, late = (sum(probe[n] for probe in self.judged) for n in (0, 1))
        permits = policy.half_open_permits
        if (failures and failures / permits >= policy.failure_rate_threshold) or (
            late and late / permits >= policy.slow_call_rate_threshold
        ):
            self.open(policy, pushback, now)
        elif len(self.judged) >= permits:
            self.close(now)

    def close(self, now):
        self.closed_at = now
        self.enter("closed")

    def open(self, policy, pushback, now):
        if self.closed_at is not None and now - self.closed_at >= policy.healthy_after:
            self.openings = 0
        self.closed_at = None
        longest = min(policy.open_duration * 2**self.openings, policy.max_open_duration)
        self.openings += 1
        self.bounds = [
            now + max(longest * (1 + sign * policy.jitter), pushback) for sign in (-1, 1)
        ]
        self.open_until = self.bounds[0]
        self.enter("open")
