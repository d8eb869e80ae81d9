"""A breaker beside a model, under outcomes, losses and changes: never stuck, never mistaken."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import CircuitBreaker, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, Kind, cancelled, failed, refused, succeeded
from ninelives_grpc.policies.circuit_breaker import Mode
from ninelives_grpc.policies.gate import Permit, Refusal
from tests.property.changing import VALUES, change, changes
from tests.property.circuits import CircuitModel
from tests.unit.alone import alone
from tests.unit.backend import StatusError

CALL = Call(Method("m"), 0.0)
LONGEST_LEASE, LONGEST_OPEN = 3.0, 6.25
FAILED, SLOW = failed(StatusError(), 0.0), succeeded(2.0)
PATIENCE = failed(StatusError(pushback=4000), 0.0)
OUTCOMES = st.sampled_from(
    [
        succeeded(0.0),
        succeeded(0.0),
        succeeded(0.75),
        failed(StatusError(), 0.0),
        failed(StatusError(Code.UNKNOWN), 0.0),
        failed(StatusError(Code.INTERNAL), 2.0),
        failed(StatusError(Code.NOT_FOUND), 0.0),
        failed(StatusError(Code.ABORTED), 2.0),
        failed(StatusError(Code.RESOURCE_EXHAUSTED), 2.0),
        failed(StatusError(pushback=4000), 0.0),
        refused(Refusal("other", "no")),
        cancelled(2.0),
    ]
)


def strict(outcome):
    """Count a server that asks for patience as one that fails."""
    return Kind.FAILURE if outcome.pushback is not None else None


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        values=changes(CircuitBreaker),
        classify=st.sampled_from([None, strict]),
        counts_runs=st.booleans(),
        slow=st.sampled_from([None, 0.5]),
    )
    def begin(self, values, classify, counts_runs, slow):
        self.now = 0.0
        self.refused = 0
        self.running = []
        self.model = CircuitModel()
        start = {"minimum_calls": 2, "window_size": 8, "confidence": 0.0, "probe_lease": 3.0}
        start |= {"healthy_after": 2.0}
        start |= {"slow_call_duration": slow, "half_open_concurrency": 2, "half_open_permits": 2}
        if counts_runs:
            start |= {"consecutive_failures": 3, "failure_rate_threshold": 1.0}
        self.gate = alone(
            CircuitBreaker(**start | values | {"max_open_duration": 5.0}, classify=classify),
            now=lambda: self.now,
        )

    @property
    def policy(self):
        return self.gate.policy

    @property
    def circuit(self):
        return self.gate._circuit

    def kind(self, outcome):
        seen = self.policy.classify is not None and strict(outcome)
        return seen or outcome.kind

    def note_when_open_ends(self, age):
        """Take over the random part of the time to be open for."""
        if self.model.age != age and self.model.state == "open":
            low, high = self.model.bounds
            assert low <= self.circuit.open_until <= high
            self.model.open_until = self.circuit.open_until

    @rule(seconds=st.sampled_from([0.125, 0.5, 1.0, 4.0, 10.0, 61.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(count=st.integers(1, 4))
    def calls_come(self, count):
        for _ in range(count):
            self.a_call_comes()

    def a_call_comes(self):
        mode, model, age = self.policy.mode, self.model, self.model.age
        passes = mode != "open"
        may = model.admits(self.policy, self.now) if mode in {"auto", "metrics_only"} else None
        if mode == "auto":
            passes = may

        verdict = self.gate.admit(CALL, self.now, None)

        assert isinstance(verdict, Permit) is passes
        self.note_when_open_ends(age)
        if not passes:
            self.refused += 1
            assert verdict.code is Code.UNAVAILABLE
            if model.state == "open" and mode == "auto":
                assert verdict.retry_after == model.open_until - self.now
            return
        if may and model.state == "half_open":
            model.probes.append((verdict, self.now + self.policy.probe_lease))
        # A permit that the circuit knows nothing of has no age.
        counted = mode != "disabled" and (mode != "metrics_only" or may)
        self.running.append((verdict, model.age if counted else None))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=OUTCOMES, times=st.integers(1, 3))
    def calls_end(self, data, outcome, times):
        for _ in range(min(times, len(self.running))):
            at = data.draw(st.integers(0, len(self.running) - 1))
            self.a_call_ends(*self.running.pop(at), outcome)

    def a_call_ends(self, permit, age, outcome):
        model, policy, kind = self.model, self.policy, self.kind(outcome)
        before = model.age
        heeded = policy.mode != "closed"
        is_probe = any(probe is permit for probe, _ in model.probes)
        if age == before and model.state == "closed":
            model.call_ends(policy, outcome, kind, self.now, heeded=heeded)
        elif age == before and is_probe and heeded:
            model.probe_ends(policy, permit, outcome, kind, self.now)
        elif age == before and is_probe:
            model.probes = [probe for probe in model.probes if probe[0] is not permit]

        self.gate.settle(permit, outcome, self.now)

        self.note_when_open_ends(before)

    @rule(times=st.integers(1, 4), fails=st.sampled_from([FAILED, SLOW, PATIENCE]))
    def the_backend_is_down_for_a_while(self, times, fails):
        for _ in range(times):
            self.one_call_comes_after_the_other(6, fails)
            if self.model.state == "open":
                self.now = max(self.now, self.model.open_until)

    @rule(seconds=st.sampled_from([0.5, 2.5, 61.0]))
    def the_backend_is_well_for_a_while(self, seconds):
        if self.model.state == "open":
            self.now = max(self.now, self.model.open_until)
        self.one_call_comes_after_the_other(5, succeeded(0.0))
        self.now += seconds

    @rule(mode=st.sampled_from(Mode))
    def it_is_overridden_for_a_while(self, mode):
        self.parameters_change({"mode": mode})
        self.one_call_comes_after_the_other(6, FAILED)
        self.parameters_change({"mode": Mode.AUTO})

    @precondition(lambda self: self.model.judged)
    @rule(permits=st.integers(1, 2))
    def fewer_probes_are_to_decide(self, permits):
        self.parameters_change({"half_open_permits": permits})
        self.a_call_comes()

    @rule(count=st.integers(1, 4), outcome=st.sampled_from([FAILED, SLOW, succeeded(0.0)]))
    def calls_come_and_end(self, count, outcome):
        self.one_call_comes_after_the_other(count, outcome)

    def one_call_comes_after_the_other(self, count, outcome):
        for _ in range(count):
            running = len(self.running)
            self.a_call_comes()
            if len(self.running) > running:
                self.a_call_ends(*self.running.pop(), outcome)

    @precondition(lambda self: self.model.state == "open")
    @rule(early=st.booleans())
    def it_is_time_for_a_probe(self, early):
        if early:
            self.now = max(self.now, self.model.open_until - 0.125)
        else:
            self.now = max(self.now, self.model.open_until)
        self.a_call_comes()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_is_lost(self, data):
        self.running.remove(data.draw(st.sampled_from(self.running)))

    @rule(values=changes(CircuitBreaker))
    def any_parameters_change(self, values):
        self.parameters_change(values)

    def parameters_change(self, values):
        change(self.gate, values)

    @rule(data=st.data(), name=st.sampled_from(["mode", "half_open_permits", "half_open_permits"]))
    def what_matters_most_changes(self, data, name):
        self.parameters_change({name: data.draw(VALUES[CircuitBreaker][name])})

    @rule(doubt=st.integers(0, 6))
    def somebody_resets_it(self, doubt):
        if not doubt:
            self.gate.reset(self.now)
            self.model.reset()

    @invariant()
    def it_is_in_the_state_that_the_model_is_in(self):
        model, state = self.model, self.gate.state(self.now)
        model.trim(self.policy, self.now)
        assert state["state"] == model.state
        assert state["refused"] == self.refused
        assert self.circuit.probes == [probe for probe, _ in model.probes]
        assert self.circuit._probes_done == len(model.judged)
        if model.state == "closed":
            assert self.circuit.run == model.run
            tally = (state["calls"], state["failures"], state["slow_calls"])
            assert tally == (len(model.calls), *(sum(c[n] for c in model.calls) for n in (1, 2)))

    @invariant()
    def there_are_never_more_probes_than_allowed(self):
        # Four permits and three at once are the most that any change allows.
        assert len(self.circuit.probes) <= 3
        assert self.circuit.state == "half_open" or not self.circuit.probes

    def teardown(self):
        """From wherever it stands, successes close it within the time that it may take at most."""
        if not hasattr(self, "gate"):
            return
        self.gate.change({"mode": "auto"})
        latest = max(self.now, self.circuit.open_until) + LONGEST_LEASE + 2 * LONGEST_OPEN
        while self.circuit.state != "closed":
            assert self.now <= latest
            verdict = self.gate.admit(CALL, self.now, None)
            if isinstance(verdict, Permit):
                self.gate.settle(verdict, succeeded(0.0), self.now)
            else:
                # It says when to come back, and is to mean it.
                assert verdict.retry_after > 0
                self.now += min(verdict.retry_after, 0.5)


TestCircuitBreaker = BreakerMachine.TestCase
TestCircuitBreaker.settings = settings(max_examples=150, stateful_step_count=50)
