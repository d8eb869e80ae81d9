"""A breaker under random outcomes, times, losses and changes: it is never stuck."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import CircuitBreaker, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, cancelled, failed, succeeded
from ninelives_grpc.policies.gate import Permit
from ninelives_grpc.windows.outcomes import wilson_lower_bound
from tests.unit.alone import alone
from tests.unit.backend import StatusError

CALL = Call(Method("m"), 0.0)
MAX_OPEN, LEASE = 5.0, 3.0

OUTCOMES = st.sampled_from(
    [
        succeeded(0.1),
        succeeded(2.0),
        failed(StatusError(), 0.1),
        failed(StatusError(), 0.1),
        failed(StatusError(Code.INTERNAL), 2.0),
        failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.1),
        failed(StatusError(pushback=9000), 0.1),
        cancelled(),
    ]
)


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        minimum=st.integers(1, 6),
        permits=st.integers(1, 4),
        concurrency=st.integers(1, 3),
        slow=st.sampled_from([None, 1.0]),
        confidence=st.sampled_from([0.0, 1.96]),
        jitter=st.sampled_from([0.0, 0.1]),
    )
    def begin(self, minimum, permits, concurrency, slow, confidence, jitter):
        self.now = 0.0
        self.running = []
        self.window = []
        self.gate = alone(
            CircuitBreaker(
                minimum_calls=minimum,
                window_size=12,
                confidence=confidence,
                slow_call_duration=slow,
                half_open_permits=permits,
                half_open_concurrency=concurrency,
                max_open_duration=MAX_OPEN,
                probe_lease=LEASE,
                jitter=jitter,
            ),
            now=lambda: self.now,
        )

    @property
    def circuit(self):
        return self.gate._circuit

    def forget_window_of_another_time(self, generation):
        if self.circuit.generation != generation:
            self.window = []

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.5, 1.0, 5.5, 61.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 4))
    def calls_come(self, count):
        for _ in range(count):
            generation = self.circuit.generation
            refused_before = self.circuit.state == "open" and self.now < self.circuit.open_until
            verdict = self.gate.admit(CALL, self.now, None)
            admitted = isinstance(verdict, Permit)
            if self.gate.policy.mode == "auto":
                assert not (admitted and refused_before)
                assert admitted or self.circuit.state != "closed"
                assert admitted or verdict.retry_after >= 0
            if admitted:
                self.running.append(verdict)
            self.forget_window_of_another_time(generation)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=OUTCOMES)
    def call_ends(self, data, outcome):
        permit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        circuit, policy = self.circuit, self.gate.policy
        current = permit.circuit is not None and permit.generation == circuit.generation
        counts = current and circuit.state == "closed" and outcome.kind != "ignored"
        slow_after = policy.slow_call_duration
        slow = slow_after is not None and outcome.duration >= slow_after
        bad = outcome.kind == "failure"
        if counts:
            self.window.append((self.now, bad, slow))
        expect_open = counts and (bad or slow) and policy.mode != "closed" and self.is_bad()
        generation = circuit.generation

        self.gate.settle(permit, outcome, self.now)

        if counts:
            assert (circuit.state == "open") is expect_open
        elif not current:
            assert circuit.generation == generation
        self.forget_window_of_another_time(generation)

    def recent(self):
        policy = self.gate.policy
        return [call for call in self.window[-policy.window_size :] if call[0] >= self.now - 10.0]

    def is_bad(self):
        policy, recent = self.gate.policy, self.recent()
        if len(recent) < policy.minimum_calls:
            return False
        rates = [
            (wilson_lower_bound(sum(call[n] for call in recent), len(recent), policy.confidence))
            for n in (1, 2)
        ]
        return rates[0] > policy.failure_rate_threshold or (
            policy.slow_call_duration is not None and rates[1] > policy.slow_call_rate_threshold
        )

    @precondition(lambda self: self.running)
    @rule()
    def a_call_is_lost(self):
        self.running.pop()

    @rule(
        change=st.one_of(
            st.fixed_dictionaries({"half_open_permits": st.integers(1, 4)}),
            st.fixed_dictionaries({"half_open_concurrency": st.integers(1, 3)}),
            st.fixed_dictionaries({"minimum_calls": st.integers(1, 6)}),
            st.fixed_dictionaries(
                {"mode": st.sampled_from(["auto", "auto", "closed", "metrics_only", "open"])}
            ),
        )
    )
    def a_parameter_changes(self, change):
        self.gate.change(change)

    @rule()
    def somebody_resets_it(self):
        self.gate.reset(self.now)
        self.window = []
        assert self.circuit.state == "closed"

    @invariant()
    def the_window_is_what_a_list_would_hold(self):
        if self.circuit.state == "closed":
            calls = self.gate.state(self.now)["calls"]
            assert calls == len(self.recent())

    @invariant()
    def it_is_never_open_for_longer_than_told(self):
        if self.circuit.state == "open":
            assert self.circuit.open_until - self.now <= MAX_OPEN * 1.1

    @invariant()
    def there_are_never_more_probes_than_decide(self):
        assert len(self.circuit.probes) <= 4
        assert self.circuit.state == "half_open" or not self.circuit.probes

    def teardown(self):
        if not hasattr(self, "gate"):
            return
        self.gate.change({"mode": "auto"})
        self.now += max(MAX_OPEN * 1.1, LEASE) + 0.001
        for _ in range(50):
            permit = self.gate.admit(CALL, self.now, None)
            if isinstance(permit, Permit):
                self.gate.settle(permit, succeeded(0.1), self.now)
            self.now += MAX_OPEN
        assert self.circuit.state == "closed"


TestCircuitBreaker = BreakerMachine.TestCase
