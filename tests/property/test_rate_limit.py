"""A rate limit beside buckets of tokens, and beside a list of all that was let through."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Method, RateLimit
from ninelives_grpc.call import Call
from ninelives_grpc.policies.gate import Permit, Refusal
from tests.property.changing import change, changes
from tests.unit.alone import alone

EIGHTHS = st.integers(0, 64).map(lambda n: n / 8)
KEYS = ["a", "b", "c", "d"]


def call_of(weight, key="a", priority="normal"):
    metadata = [("key", key), ("x-ninelives-priority", priority)]
    return Call(Method("m"), 0.0, None, metadata, weight)


class Bucket:
    """The tokens of one key, negative by the turns given away in advance, and who had them.

    Attributes:
        passed: When each call since the last change goes, and what it counts for.
        turns: Turns that were reserved and not given up, oldest first, as (turn, weight).
        given: All turns that were reserved, but for those that were given back.
    """

    def __init__(self, burst):
        self.tokens = burst
        self.passed = []
        self.turns = []
        self.given = []

    @property
    def latest(self):
        return self.given[-1]


class RateLimitMachine(RuleBasedStateMachine):
    @initialize(keyed=st.booleans(), values=changes(RateLimit))
    def begin(self, keyed, values):
        self.now = 0.0
        self.refused = self.exceeded = 0
        self.buckets = OrderedDict()
        self.forgotten = []
        self.keyed = keyed
        scope = "metadata:key" if keyed else "stack"
        start = {"rate": 1.0, "burst": 2.0, "max_wait": 2.0, "max_keys": 3} | values
        self.gate = alone(
            RateLimit(**start, scope=scope, weight=lambda call: call.request),
            now=lambda: self.now,
        )

    @property
    def policy(self):
        return self.gate.policy

    @property
    def turns(self):
        buckets = [*self.buckets.values(), *self.forgotten]
        return [(bucket, *turn) for bucket in buckets for turn in bucket.turns]

    def bucket(self, key):
        """Find the bucket of a key; the longest unused are forgotten."""
        key = key if self.keyed else ""
        if key not in self.buckets:
            self.buckets[key] = Bucket(self.policy.burst)
        self.buckets.move_to_end(key)
        self.forget()
        return self.buckets[key]

    def forget(self):
        while self.keyed and len(self.buckets) > self.policy.max_keys:
            self.forgotten.append(self.buckets.popitem(last=False)[1])

    @rule(seconds=EIGHTHS)
    def time_passes(self, seconds):
        self.now += seconds
        for bucket in self.buckets.values():
            earned = seconds * self.policy.rate
            bucket.tokens = min(self.policy.burst, bucket.tokens + earned)

    @rule(
        weights=st.lists(st.sampled_from([1.0, 1.0, 1.0, 0.5, 2.0, 16.0]), min_size=1, max_size=4),
        left=st.sampled_from([None, None, "just the wait", 0.0, 1.0, 4.0]),
        key=st.sampled_from(KEYS),
        critical=st.sampled_from([False, False, True]),
    )
    def calls_come(self, weights, left, key, critical):
        for weight in weights:
            self.a_call_comes(weight, left, key, critical=critical)

    def a_call_comes(self, weight, left, key, *, critical):
        policy, bucket = self.policy, self.bucket(key)
        wait = max(0.0, (weight - bucket.tokens) / policy.rate)
        left = wait if left == "just the wait" else left
        in_time = wait <= policy.max_wait and (left is None or wait < left)
        deadline = None if left is None else self.now + left

        borrowed = policy.critical_burst if critical else 0.0
        passes = weight - bucket.tokens <= borrowed

        priority = "critical" if critical else "normal"
        verdict = self.gate.admit(call_of(weight, key, priority), self.now, deadline)

        if passes:
            assert isinstance(verdict, Permit)
            bucket.tokens -= weight
            bucket.passed.append((self.now, weight))
        elif isinstance(verdict, Permit):
            assert policy.enforced < 1
            self.exceeded += 1
        elif in_time:
            assert (verdict.since, verdict.until) == (self.now, self.now + wait)
            bucket.tokens -= weight
            bucket.turns.append((verdict, weight))
            bucket.given.append(verdict)
            bucket.passed.append((verdict.until, weight))
        else:
            assert isinstance(verdict, Refusal)
            assert verdict.retry_after == (None if weight > policy.burst else wait)
            self.refused += 1
        assert passes or policy.enforced or isinstance(verdict, Permit)

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def a_turn_is_asked_for(self, data):
        bucket, turn, weight = data.draw(st.sampled_from(self.turns))
        verdict = self.gate.claim(turn, call_of(weight), self.now)

        if self.now >= turn.until:
            assert isinstance(verdict, Permit)
            bucket.turns.remove((turn, weight))
        else:
            assert verdict is turn

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def a_turn_is_given_up(self, data):
        bucket, turn, weight = data.draw(st.sampled_from(self.turns))
        in_time = self.now < turn.until and turn is bucket.latest
        bucket.turns.remove((turn, weight))
        self.gate.abandon(turn, self.now)
        if in_time:
            # One in the middle, or whose time has come, is nobody else's to have.
            bucket.tokens = min(self.policy.burst, bucket.tokens + weight)
            bucket.given.remove(turn)
            if (turn.until, weight) in bucket.passed:
                bucket.passed.remove((turn.until, weight))

    @rule(values=changes(RateLimit))
    def parameters_change(self, values):
        burst = self.policy.burst
        change(self.gate, values)
        for bucket in self.buckets.values():
            bucket.tokens += self.policy.burst - burst
            bucket.passed.clear()
        self.forget()

    @invariant()
    def no_stretch_of_time_sees_more_than_the_burst_and_the_rate_allow(self):
        rate, burst = self.policy.rate, self.policy.burst + self.policy.critical_burst
        for bucket in self.buckets.values():
            passed = sorted(bucket.passed)
            for first, (start, weight) in enumerate(passed):
                # Whoever is heavier than the burst has waited for that before.
                total, allowed = 0.0, burst + max(0.0, weight - burst)
                for at, each in passed[first:]:
                    total += each
                    assert total <= allowed + rate * (at - start)

    @invariant()
    def it_says_what_is_there(self):
        state = self.gate.state(self.now)
        assert (state["refused"], state["exceeded"]) == (self.refused, self.exceeded)
        if self.keyed:
            assert state["keys"] == len(self.buckets) <= self.policy.max_keys
        elif self.buckets:
            assert state["available"] == max(0.0, self.buckets[""].tokens)


TestRateLimit = RateLimitMachine.TestCase


@given(
    rate=st.floats(0.01, 1000),
    burst=st.floats(1, 100),
    gaps=st.lists(st.floats(0, 10), min_size=1, max_size=100),
)
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate_allow(rate, burst, gaps):
    gate, now, admitted = alone(RateLimit(rate, burst)), 0.0, []

    for gap in gaps:
        now += gap
        if isinstance(gate.admit(call_of(1.0), now, None), Permit):
            admitted.append(now)

    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            allowed = burst + rate * (admitted[last] - start)
            assert last - first + 1 <= allowed + rate * 1e-6 + 1e-6


@given(
    rate=st.floats(0.01, 1000),
    burst=st.floats(1, 100),
    gaps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_whoever_waits_as_long_as_told_is_let_through(rate, burst, gaps):
    gate, now = alone(RateLimit(rate, burst)), 0.0

    for gap in gaps:
        now += gap
        verdict = gate.admit(call_of(1.0), now, None)
        if isinstance(verdict, Refusal):
            now += verdict.retry_after + 1e-9
            assert isinstance(gate.admit(call_of(1.0), now, None), Permit)
