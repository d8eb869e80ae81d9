"""Random calls through random stacks: whatever happens, nothing leaks and everything ends."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Bulkhead, CircuitBreaker, Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import succeeded
from ninelives_grpc.policies.budget import ConcurrencyBudgetFlow
from ninelives_grpc.policies.gate import Permit
from ninelives_grpc.stacks.step import Step
from tests.property.changing import change, changes
from tests.property.worlds import EXPRESSIONS, OUTCOMES, Ledger, World

CALL = Call(Method("m"), 0.0)
PRIORITIES = st.sampled_from(["critical", "normal", "background", "nonsense"])


class ExecutionMachine(RuleBasedStateMachine):
    @initialize(expression=EXPRESSIONS)
    def begin(self, expression):
        self.world = World(expression)
        self.before = {live.name: 0 for live in self.world.of(Bulkhead)}

    def push(self, data, steps):
        """Choose one of those that can be given a push."""
        runs = [run for run in self.world.active if run.step in steps]
        return runs[data.draw(st.integers(0, len(runs) - 1))] if runs else None

    @rule(timeout=st.sampled_from([None, None, 0.0, 1.0, 30.0]), priority=PRIORITIES)
    def a_call_comes(self, timeout, priority):
        if len(self.world.active) < 12:
            self.world.call(timeout, priority)

    @rule(data=st.data(), outcome=OUTCOMES)
    def an_attempt_ends(self, data, outcome):
        run = self.push(data, {Step.ATTEMPT})
        if run is not None:
            run.end_attempt(outcome())

    @rule(data=st.data())
    def somebody_asks_whether_the_pause_is_over(self, data):
        run = self.push(data, {Step.PAUSE})
        if run is not None:
            run.resume()

    @rule(data=st.data())
    def a_pause_lasts_to_its_end(self, data):
        run = self.push(data, {Step.PAUSE})
        if run is not None:
            until = run.execution.current().until
            self.world.clock.advance(max(0.0, until - self.world.clock.now()))
            run.resume()
            assert run.step is not Step.PAUSE or run.execution.current().until > until

    @rule(data=st.data())
    def a_hedge_is_due(self, data):
        run = self.push(data, {Step.RACE})
        if run is not None:
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            run.hedge()

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 25.0]))
    def time_passes(self, seconds):
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data):
        runs = self.world.runs
        run = runs[data.draw(st.integers(0, len(runs) - 1))]
        finished = run.execution.finished
        run.cancel()
        if not finished:
            run.go(Step.FINISH)

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def something_is_delivered(self, data):
        runs = self.world.runs
        runs[data.draw(st.integers(0, len(runs) - 1))].execution.call.committed = True

    @precondition(lambda self: self.world.changeable)
    @rule(data=st.data())
    def parameters_change(self, data):
        live = data.draw(st.sampled_from(self.world.changeable))
        change(live, data.draw(changes(type(live.policy))))

    @invariant()
    def limits_are_never_exceeded(self):
        for live in self.world.of(Bulkhead):
            limit = live.policy.max_concurrent
            # What is beyond a limit that has shrunk may drain.
            assert live.in_flight <= max(limit, self.before[live.name])
            self.before[live.name] = live.in_flight

    @invariant()
    def nobody_waits_while_there_is_room(self):
        for live in self.world.of(Bulkhead):
            assert not live._queue or live.in_flight >= live.policy.max_concurrent

    @invariant()
    def budgets_are_never_negative(self):
        for budget in self.world.budgets:
            assert budget.state(self.world.clock.now())["left"] >= 0

    @invariant()
    def no_more_permits_are_out_than_calls_are_under_way(self):
        unfinished = [run for run in self.world.runs if not run.execution.finished]
        assert len(self.world.policies[""].out) == len(unfinished)
        if not unfinished:
            self.nothing_is_held()

    def nothing_is_held(self):
        assert self.world.active == []
        for live in self.world.of(Ledger):
            assert live.out == set()
        for live in self.world.of(Bulkhead):
            assert live.in_flight == 0
            assert live._queue == []
        for live in self.world.of(CircuitBreaker):
            assert live.state(0.0)["probes"] == 0
        for budget in self.world.budgets:
            if isinstance(budget, ConcurrencyBudgetFlow):
                assert (budget._running, budget._extra) == (0, 0)

    def teardown(self):
        if not hasattr(self, "world"):
            return
        for _ in range(500):
            if not self.world.active:
                break
            run = self.world.active[0]
            if run.step is Step.ATTEMPT:
                run.end_attempt(succeeded(0.1))
                continue
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            if run.step is Step.RACE:
                run.hedge()
            else:
                run.resume()
        assert all(run.execution.finished for run in self.world.runs)
        self.nothing_is_held()
        self.circuits_close()

    def circuits_close(self):
        for live in self.world.of(CircuitBreaker):
            live.change({"mode": "auto"})
            for _ in range(20):
                self.world.clock.advance(6.0)
                now = self.world.clock.now()
                verdict = live.admit(CALL, now, None)
                if isinstance(verdict, Permit):
                    live.settle(verdict, succeeded(0.0), now)
            assert live.state(self.world.clock.now())["state"] == "closed"


TestExecution = ExecutionMachine.TestCase
TestExecution.settings = settings(max_examples=80, stateful_step_count=30)
