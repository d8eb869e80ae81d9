"""A rate limit against a bucket of tokens, in arithmetic that is exact in floats."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ninelives_grpc import Method, RateLimit
from ninelives_grpc.call import Call
from ninelives_grpc.policies.gate import Permit, Refusal
from tests.unit.alone import alone

EIGHTHS = st.integers(0, 64).map(lambda n: n / 8)


def call_of(weight):
    return Call(Method("m"), 0.0, None, None, weight)


class RateLimitMachine(RuleBasedStateMachine):
    """`tokens` may be negative: by the turns that were given away in advance."""

    @initialize(
        rate=st.sampled_from([0.5, 1.0, 4.0, 64.0]),
        burst=st.sampled_from([1.0, 2.0, 8.0]),
        max_wait=st.sampled_from([0.0, 2.0]),
    )
    def begin(self, rate, burst, max_wait):
        self.now = 0.0
        self.tokens = self.burst = burst
        self.rate, self.max_wait = rate, max_wait
        self.turns = []
        self.gate = alone(
            RateLimit(rate, burst, max_wait=max_wait, weight=lambda call: call.request),
            now=lambda: self.now,
        )

    @rule(seconds=EIGHTHS)
    def time_passes(self, seconds):
        self.now += seconds
        self.tokens = min(self.burst, self.tokens + seconds * self.rate)

    @rule(weight=st.sampled_from([1.0, 1.0, 1.0, 2.0, 16.0]), deadline=st.none() | EIGHTHS)
    def a_call_comes(self, weight, deadline):
        wait = max(0.0, (weight - self.tokens) / self.rate)
        may_wait = wait <= self.max_wait and (deadline is None or wait < deadline)

        verdict = self.gate.admit(
            call_of(weight), self.now, None if deadline is None else self.now + deadline
        )

        if wait == 0:
            assert isinstance(verdict, Permit)
        elif may_wait:
            assert verdict.until == self.now + wait
            self.turns.append((verdict, weight))
        else:
            assert isinstance(verdict, Refusal)
            assert verdict.retry_after == (None if weight > self.burst else wait)
        if wait == 0 or may_wait:
            self.tokens -= weight

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def a_turn_is_asked_for(self, data):
        turn, weight = self.turns.pop(data.draw(st.integers(0, len(self.turns) - 1)))
        verdict = self.gate.claim(turn, call_of(weight), self.now)

        if self.now >= turn.until:
            assert isinstance(verdict, Permit)
        else:
            assert verdict is turn
            self.turns.append((turn, weight))

    @precondition(lambda self: self.turns)
    @rule()
    def the_last_turn_is_given_up(self):
        turn, weight = self.turns[-1]
        if self.now < turn.until:
            self.turns.pop()
            self.gate.abandon(turn, self.now)
            self.tokens += weight

    @rule(factor=st.sampled_from([0.5, 2.0]))
    def the_rate_changes(self, factor):
        if 0.01 < self.rate * factor < 1000:
            self.rate *= factor
            self.gate.change({"rate": self.rate})

    @rule(burst=st.sampled_from([1.0, 2.0, 8.0]))
    def the_burst_changes(self, burst):
        self.tokens += burst - self.burst
        self.burst = burst
        self.gate.change({"burst": burst})


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
