"""Random hedged calls: no permit leaks, the budget holds, and no call makes too many attempts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Bulkhead, Hedge, Retry, RetryBudget, Timeout
from ninelives_grpc.stacks.step import Step
from tests.property.worlds import OUTCOMES, Ledger, World

HEDGES = st.fixed_dictionaries(
    {
        "delay": st.sampled_from([None, 0.0, 0.1, 2.0]),
        "max_hedges": st.integers(0, 4),
        "quantile": st.floats(0, 1),
        "minimum_samples": st.integers(1, 3),
        "max_pushback": st.sampled_from([0.0, 0.3, 60.0]),
    }
)
BUDGETS = st.builds(
    RetryBudget,
    ratio=st.floats(0, 1),
    capacity=st.floats(0, 5),
    cost=st.floats(0.1, 2),
    threshold=st.floats(0, 1),
)


class HedgeMachine(RuleBasedStateMachine):
    @initialize(hedge=HEDGES, budget=BUDGETS, queue=st.integers(0, 2), retry=st.booleans())
    def begin(self, hedge, budget, queue, retry):
        self.ledger = Ledger(name="inside")
        inside = self.ledger + Bulkhead(4, max_queue=queue, max_wait=5.0) + Timeout(8.0)
        hedged = Hedge(**hedge, budget=budget, idempotent=True) + inside
        self.world = World(Retry(2, budget=budget) + hedged if retry else hedged)
        self.rounds = 2 if retry else 1

    @property
    def hedge(self):
        return self.world.policies["hedge"]

    @property
    def budget(self):
        return self.world.policies["retry_budget"]

    def push(self, data, step):
        runs = [run for run in self.world.active if run.step is step]
        return runs[data.draw(st.integers(0, len(runs) - 1))] if runs else None

    @rule(timeout=st.sampled_from([None, None, 0.15, 1.0, 30.0]))
    def a_call_comes(self, timeout):
        if len(self.world.active) < 12:
            run = self.world.call(timeout, "normal")
            run.most = self.rounds * (1 + self.hedge.policy.max_hedges)

    @rule(data=st.data(), outcome=OUTCOMES)
    def an_attempt_ends(self, data, outcome):
        run = self.push(data, Step.ATTEMPT)
        if run is not None:
            run.end_attempt(outcome())

    @rule(data=st.data())
    def a_hedge_is_due(self, data):
        run = self.push(data, Step.RACE)
        if run is not None:
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            run.hedge()

    @rule(data=st.data())
    def somebody_asks_too_early(self, data):
        run = self.push(data, Step.RACE)
        if run is not None and self.world.clock.now() < run.until:
            before = run.row.branches[:]
            run.hedge()
            assert run.row.branches == before

    @rule(data=st.data())
    def a_pause_ends(self, data):
        run = self.push(data, Step.PAUSE)
        if run is not None:
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            run.resume()

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data):
        runs = self.world.runs
        run = runs[data.draw(st.integers(0, len(runs) - 1))]
        if not run.execution.finished:
            run.cancel()
            run.go(Step.FINISH)

    @rule(hedges=st.integers(0, 4), delay=st.sampled_from([None, 0.0, 0.5]))
    def parameters_change(self, hedges, delay):
        self.hedge.change({"max_hedges": hedges, "delay": delay})
        if self.rounds > 1:
            # A repetition takes the values of its time.
            for run in self.world.runs:
                run.most = max(run.most, 2 * (1 + 4))

    @invariant()
    def the_budget_is_never_negative(self):
        assert self.budget._tokens >= 0
        assert self.budget.left(self.world.clock.now()) >= 0

    @invariant()
    def every_extra_attempt_is_paid(self):
        for run in self.world.runs:
            assert run.execution.call.attempts <= run.most
            if not run.execution.finished:
                assert run.execution.call.attempts <= 1 + len(run.execution.call.paid)

    @invariant()
    def hedges_do_not_queue(self):
        waiting = [run for run in self.world.active if run.step is Step.PAUSE]
        for run in waiting:
            if run.parent is not None and run.execution.wait is not None:
                assert run is run.parent.branches[0]

    @invariant()
    def permits_are_those_of_what_runs(self):
        out = len(self.world.policies["inside"].out)
        branches = [run for run in self.world.active if run.step in {Step.ATTEMPT, Step.PAUSE}]
        assert out <= len(branches)
        if not self.world.active:
            assert out == 0
            assert self.world.policies["bulkhead"].in_flight == 0

    def teardown(self):
        if hasattr(self, "world"):
            for run in self.world.runs:
                if not run.execution.finished:
                    run.cancel()
            assert self.world.policies["inside"].out == set()
            assert self.world.policies[""].out == set()
            assert self.world.policies["bulkhead"].in_flight == 0
            assert self.world.policies["bulkhead"]._queue == []


TestHedge = HedgeMachine.TestCase
TestHedge.settings = settings(max_examples=80, stateful_step_count=30)
