"""Hedged calls beside a model of each: who starts when, who wins, who pays, and what is left."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import Bulkhead, Hedge, Retry, RetryBudget, Timeout
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.stacks.step import Step
from tests.property.changing import change, changes
from tests.property.hedges import HedgedWorld
from tests.property.worlds import OUTCOMES, Ledger, World
from tests.unit.backend import StatusError

MOST_HEDGES = 4
ROUNDS = 2
HEDGES = changes(Hedge, delay=st.sampled_from([None, 0.0, 0.5]))
PUSHBACKS = st.sampled_from([None, None, -1, 0, 250, 500, 4000])
FAILURES = PUSHBACKS.map(lambda wait: lambda: failed(StatusError(pushback=wait), 0.1))
BUDGETS = st.sampled_from(
    [{"cost": 0.0}, {"cost": 0.0}, {"threshold": 0.0}, {"threshold": 0.0, "cost": 2.5}]
)


class HedgeMachine(RuleBasedStateMachine):
    rounds = 1

    @initialize(hedge=HEDGES, learns=st.booleans(), budget=BUDGETS, queue=st.integers(0, 2))
    def begin(self, hedge, learns, budget, queue):
        start = {"delay": None if learns else 0.5, "max_hedges": 3, "minimum_samples": 2}
        pays = RetryBudget(**budget)
        self.world = self.around(
            Hedge(**start | hedge | {"window_size": 6}, budget=pays, idempotent=True)
            + Ledger(name="inside")
            + Bulkhead(4, max_queue=queue, max_wait=5.0)
            + Timeout(8.0, margin=0.0)
        )

    def around(self, hedged):
        return HedgedWorld(hedged)

    @property
    def policies(self):
        return self.world.policies

    def chosen(self, data, step):
        runs = [run for run in self.world.active if run.step is step]
        return data.draw(st.sampled_from(runs)) if runs else None

    @rule(
        timeout=st.sampled_from([None, None, 0.5, 1.0, 30.0]),
        served=st.sampled_from([None, None, 0.5, 4.0]),
    )
    def a_call_comes(self, timeout, served):
        if len(self.world.active) < 12:
            self.world.call(timeout, inherited=served)

    @rule(data=st.data(), outcome=OUTCOMES)
    def an_attempt_ends(self, data, outcome):
        run = self.chosen(data, Step.ATTEMPT)
        if run is not None:
            run.end_attempt(outcome())

    @rule(data=st.data(), pushbacks=st.lists(PUSHBACKS, min_size=1, max_size=3))
    def attempts_fail(self, data, pushbacks):
        for pushback in pushbacks:
            run = self.chosen(data, Step.ATTEMPT)
            if run is not None:
                run.end_attempt(failed(StatusError(pushback=pushback), 0.0))

    @rule(outcomes=st.lists(OUTCOMES | FAILURES, min_size=1, max_size=5))
    def a_call_is_hedged_as_often_as_can_be(self, outcomes):
        run = self.world.call(None)
        for _ in range(MOST_HEDGES):
            if run.step is Step.RACE and run.until is not None:
                self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
                run.hedge()
        for outcome in outcomes:
            attempts = [leaf for leaf in run.leaves() if leaf.step is Step.ATTEMPT]
            if attempts:
                attempts[0].end_attempt(outcome())

    @rule(times=st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=4))
    def calls_are_answered(self, times):
        for seconds in times:
            run = self.world.call(None)
            self.world.clock.advance(seconds)
            for leaf in run.leaves():
                if leaf.step is Step.ATTEMPT:
                    leaf.end_attempt(succeeded(seconds))

    @rule(data=st.data())
    def a_hedge_is_due(self, data):
        run = self.chosen(data, Step.RACE)
        if run is not None:
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            run.hedge()

    @rule(data=st.data())
    def somebody_asks_too_early(self, data):
        run = self.chosen(data, Step.RACE)
        if run is not None and self.world.clock.now() < run.until:
            before = run.row.branches[:]
            run.hedge()
            assert run.row.branches == before

    @rule(data=st.data())
    def a_pause_ends(self, data):
        run = self.chosen(data, Step.PAUSE)
        if run is not None:
            self.world.clock.advance(max(0.0, run.until - self.world.clock.now()))
            run.resume()

    @rule(seconds=st.sampled_from([0.25, 0.5, 8.0]))
    def time_passes(self, seconds):
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.runs)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data):
        run = data.draw(st.sampled_from(self.world.runs))
        if not run.execution.finished:
            run.cancel()
            run.go(Step.FINISH)

    @rule(refuses=st.sampled_from([False, False, True]))
    def the_policy_inside_changes_its_mind(self, refuses):
        self.policies["inside"].refuses = refuses

    @rule(values=changes(Hedge))
    def parameters_change(self, values):
        change(self.policies["hedge"], values)

    @rule(data=st.data(), name=st.sampled_from(["retry_budget", "bulkhead"]))
    def parameters_around_it_change(self, data, name):
        live = self.policies[name]
        change(live, data.draw(changes(type(live.policy))))

    @invariant()
    def the_budget_is_never_negative_and_pays_for_everything(self):
        budget = self.policies["retry_budget"]
        assert 0 <= budget._tokens <= budget.policy.capacity
        for run in self.world.runs:
            call = run.execution.call
            assert call.attempts <= min(1 + len(call.paid), self.rounds * (1 + MOST_HEDGES))

    @invariant()
    def hedges_do_not_queue(self):
        for run in self.world.active:
            if run.step is Step.PAUSE and run.parent is not None and run.execution.wait is not None:
                assert run is run.parent.branches[0]

    @invariant()
    def permits_are_those_of_what_runs(self):
        inside = [run for run in self.world.active if self.holds_a_permit(run)]
        assert len(self.policies["inside"].out) == len(inside)
        unfinished = [run for run in self.world.runs if not run.execution.finished]
        assert len(self.policies[""].out) == len(unfinished)
        running = [run for run in inside if run.step is Step.ATTEMPT]
        waits = [run.execution.current().wait for run in inside if run.step is Step.PAUSE]
        ready = sum(wait.ready and not wait.lost for wait in waits)
        assert self.policies["bulkhead"].in_flight == len(running) + ready

    def holds_a_permit(self, run):
        """Tell whether it is inside; only what waits for a place in the bulkhead is, of pauses."""
        waits = run.step is Step.PAUSE and run.execution.current().wait is not None
        return run.step is Step.ATTEMPT or waits

    def teardown(self):
        if hasattr(self, "world"):
            for run in self.world.runs:
                if not run.execution.finished:
                    run.cancel()
            self.permits_are_those_of_what_runs()
            assert self.world.active == []
            assert self.policies["bulkhead"]._queue == []


class ModelledHedgeMachine(HedgeMachine):
    @invariant()
    def attempts_are_those_of_the_model(self):
        state = self.policies["hedge"].state(0.0)
        assert (state["started"], state["won"]) == (self.world.started, self.world.won)
        for run in self.world.runs:
            assert len(run.execution.call.paid) == run.model.payments
            assert run.execution.call.attempts <= len(run.model.results)


class RepeatedHedgeMachine(HedgeMachine):
    """Hedged calls that are repeated as a whole."""

    rounds = ROUNDS

    def around(self, hedged):
        return World(Retry(ROUNDS) + hedged)

    @rule(data=st.data(), times=st.integers(1, ROUNDS))
    def parameters_of_the_retry_change(self, data, times):
        change(self.policies["retry"], data.draw(changes(Retry)) | {"max_attempts": times})


TestHedge = ModelledHedgeMachine.TestCase
TestRepeatedHedge = RepeatedHedgeMachine.TestCase
TestHedge.settings = settings(max_examples=120, stateful_step_count=50)
