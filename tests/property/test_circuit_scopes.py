"""A breaker of many circuits does as many breakers would; one by time forgets in time."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from collections import OrderedDict

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import CircuitBreaker, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import cancelled, failed, succeeded
from ninelives_grpc.policies.gate import Permit
from ninelives_grpc.windows.outcomes import TimeWindow
from tests.property.changing import change, changes
from tests.unit.alone import alone
from tests.unit.backend import StatusError

EXACT = {"jitter": 0.0, "max_open_duration": 5.0}
OUTCOMES = st.sampled_from(
    [
        succeeded(0.0),
        succeeded(1.0),
        failed(StatusError(), 0.0),
        failed(StatusError(), 1.0),
        cancelled(),
    ]
)


class ScopedBreakerMachine(RuleBasedStateMachine):
    """Each key has a twin: a breaker with one circuit, which is dropped when its key is."""

    @initialize(values=changes(CircuitBreaker))
    def begin(self, values):
        self.now = 0.0
        self.running = []
        self.twins = OrderedDict()
        start = {"minimum_calls": 1, "confidence": 0.0, "max_keys": 2} | values | EXACT
        self.gate = self.breaker(CircuitBreaker(**start, scope=lambda call: call.method.name))

    def breaker(self, policy):
        return alone(policy, now=lambda: self.now)

    def twin(self, key):
        if key not in self.twins:
            values = {name: getattr(self.gate.policy, name) for name in self.gate.specs}
            self.twins[key] = self.breaker(CircuitBreaker(**values))
        self.twins.move_to_end(key)
        self.forget()
        return self.twins[key]

    def forget(self):
        while len(self.twins) > self.gate.policy.max_keys:
            self.twins.popitem(last=False)

    @rule(key=st.sampled_from("abcd"), count=st.integers(1, 3))
    def calls_come(self, key, count):
        for _ in range(count):
            twin = self.twin(key)
            verdict = self.gate.admit(Call(Method(key), self.now), self.now, None)
            expected = twin.admit(Call(Method(key), self.now), self.now, None)
            assert type(verdict) is type(expected)
            if isinstance(verdict, Permit):
                self.running.append((verdict, twin, expected))
            else:
                assert verdict.retry_after == expected.retry_after

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=OUTCOMES)
    def a_call_ends(self, data, outcome):
        call = data.draw(st.sampled_from(self.running))
        self.running.remove(call)
        permit, twin, expected = call
        self.gate.settle(permit, outcome, self.now)
        twin.settle(expected, outcome, self.now)

    @precondition(lambda self: self.running)
    @rule()
    def all_calls_fail(self):
        for permit, twin, expected in self.running:
            self.gate.settle(permit, failed(StatusError(), 0.0), self.now)
            twin.settle(expected, failed(StatusError(), 0.0), self.now)
        self.running.clear()

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(values=changes(CircuitBreaker))
    def parameters_change(self, values):
        values = values | EXACT
        change(self.gate, values)
        self.forget()
        for twin in {id(twin): twin for twin in self.all_twins()}.values():
            change(twin, values)

    def all_twins(self):
        return [*self.twins.values(), *(twin for _, twin, _ in self.running)]

    @rule(key=st.sampled_from("abcd"))
    def one_is_reset(self, key):
        assert self.gate.reset(self.now, key) == (key in self.twins)
        if key in self.twins:
            self.twins[key].reset(self.now)

    @invariant()
    def each_circuit_is_as_its_twin_and_there_are_not_too_many(self):
        circuits = self.gate.circuits(self.now)
        assert len(circuits) <= self.gate.policy.max_keys
        assert circuits == {key: twin.circuits(self.now)[""] for key, twin in self.twins.items()}


class TimeWindowMachine(RuleBasedStateMachine):
    """Within a bucket's width, a window by time holds the calls that are young enough."""

    @initialize(age=st.sampled_from([1.0, 10.0, 60.0]))
    def begin(self, age):
        self.now, self.age = 1000.0, age
        self.window = TimeWindow(1, age)
        self.calls = []

    @rule(share=st.sampled_from([0.01, 0.05, 0.3, 1.5]))
    def time_passes(self, share):
        self.now += share * self.age

    @rule(times=st.integers(1, 5), bad=st.booleans(), slow=st.booleans())
    def calls_end(self, times, bad, slow):
        for _ in range(times):
            self.window.add(self.now, bad, slow)
            self.calls.append((self.now, bad, slow))

    @rule()
    def it_is_cleared(self):
        self.window.clear()
        self.calls.clear()

    @rule(factor=st.sampled_from([0.5, 2.0]))
    def its_age_changes_when_it_is_empty(self, factor):
        self.window.clear()
        self.calls.clear()
        self.age *= factor
        self.window.resize(1, self.age)

    @invariant()
    def it_counts_the_calls_that_are_young_enough(self):
        counted = self.window.tally(self.now)
        old, young = (self.younger_than(self.age * share) for share in (1.01, 0.89))
        assert all(
            low <= count <= high for low, count, high in zip(young, counted, old, strict=True)
        )
        assert len(self.window._buckets) <= TimeWindow.BUCKETS + 1

    def younger_than(self, age):
        calls = [call for call in self.calls if call[0] >= self.now - age]
        return len(calls), *(sum(call[n] for call in calls) for n in (1, 2))


TestScopedBreaker = ScopedBreakerMachine.TestCase
TestTimeWindow = TimeWindowMachine.TestCase
