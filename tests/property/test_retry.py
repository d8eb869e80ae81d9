"""Retried calls under random outcomes, waits, cancels and changes: every rule of when to stop."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import ConcurrencyBudget, Retry, RetryBudget, ThrottleBudget, Timeout
from ninelives_grpc.outcome import Code, failed, succeeded
from ninelives_grpc.policies.backoff import Jitter, spread
from ninelives_grpc.stacks.step import Step
from tests.property.changing import VALUES, change, changes
from tests.property.retries import Retries
from tests.property.worlds import OUTCOMES, Ledger, World
from tests.unit.backend import StatusError

BUDGETS = st.sampled_from(
    [
        lambda: RetryBudget(cost=0.0),
        lambda: RetryBudget(cost=0.0),
        lambda: RetryBudget(threshold=0.0),
        lambda: ConcurrencyBudget(minimum=2),
        lambda: ThrottleBudget(capacity=4.0, ratio=1.0),
    ]
)
CODES = st.sampled_from(
    [Code.UNAVAILABLE, Code.UNAVAILABLE, Code.INTERNAL, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED]
)
PUSHBACKS = st.sampled_from([None, None, None, None, -1, 0, 250, 250, 4000])
FAILURES = st.tuples(CODES, PUSHBACKS) | st.tuples(st.just(Code.UNAVAILABLE), PUSHBACKS)


class RetryMachine(RuleBasedStateMachine):
    @initialize(
        jitter=st.sampled_from(["none", "none", *Jitter]),
        backoff=VALUES[Retry]["backoff"],
        idempotent=st.booleans(),
        codes=st.sampled_from([(), (), (Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED)]),
        only_codes=st.sampled_from([False, False, True]),
        budget=BUDGETS,
        outer=st.booleans(),
        inner=st.booleans(),
    )
    def begin(self, jitter, backoff, idempotent, codes, only_codes, budget, outer, inner):
        options = {
            "idempotent": idempotent,
            "codes": codes,
            "only_codes": only_codes and codes != (),
        }
        retry = Retry(5, jitter=jitter, backoff=backoff, **options, budget=budget())
        self.totals = [Timeout(8.0, margin=0.0, name="total")] if outer else []
        self.attempts = [Timeout(2.0, margin=0.0, name="attempt")] if inner else []
        expression = retry + Ledger(name="inside")
        for timeout in self.totals:
            expression = timeout + expression
        for timeout in self.attempts:
            expression += timeout
        self.world = World(expression)
        self.models = {}

    @property
    def now(self):
        return self.world.clock.now()

    @property
    def ledger(self):
        return self.world.policies["inside"]

    @property
    def budget(self):
        return self.world.policies["retry_budget"]

    def limit(self, timeouts):
        """Return when a time limit that begins now is over, or None without one."""
        for timeout in timeouts:
            return self.now + self.world.policies[timeout.name].policy.seconds
        return None

    def chosen(self, data, step):
        runs = [run for run in self.models if run.step is step]
        return data.draw(st.sampled_from(runs)) if runs else None

    def news(self, name):
        return [event for event in self.world.sink.events if event.name == name]

    @rule(timeout=st.sampled_from([None, None, 1.0, 30.0]), served=st.sampled_from([None, 2.0]))
    def a_call_comes(self, timeout, served):
        if len(self.world.active) >= 6:
            return
        given = [None if each is None else self.now + each for each in (timeout, served)]
        policy = self.world.policies["retry"].policy
        model = Retries(policy, [*given, self.limit(self.totals)])
        self.world.sink.clear()
        run = self.world.call(timeout, inherited=served)
        self.models[run] = model
        self.an_attempt_begins(run)

    def an_attempt_begins(self, run):
        model = self.models[run]
        if self.ledger.refuses:
            self.an_attempt_was_refused(run)
            return
        assert run.step is Step.ATTEMPT
        model.begun += 1
        own, limit = self.limit(self.attempts), model.limit
        if self.totals or self.attempts:
            assert run.execution.deadline == min((at for at in (own, limit) if at), default=None)
        model.own = own if limit is None or own is None or own < limit else None

    def an_attempt_was_refused(self, run):
        """The caller hears what the backend said before, if it said anything."""
        outcome, failure = run.execution.outcome, self.models[run].failure
        assert run.step is Step.FINISH
        if failure is None:
            assert outcome.refusal is not None
            assert self.news("RetryExhausted") == []
        else:
            assert outcome is failure
            assert outcome.notes
            assert [event.reason for event in self.news("RetryExhausted")] == ["not_retryable"]

    def an_attempt_ended(self, run, outcome):
        model, budget = self.models[run], self.budget
        before = budget.withdrawn, budget.refused
        self.world.sink.clear()
        run.end_attempt(outcome)
        paid, denied = budget.withdrawn - before[0], budget.refused - before[1]
        if outcome.code is Code.OK:
            self.is_over(run, outcome, [])
            return
        fired = model.own is not None and self.now >= model.own - 0.01
        model.timed_out = fired and outcome.code is Code.DEADLINE_EXCEEDED
        model.made += 1
        reason = model.reason_to_stop(outcome, run.execution.call.committed)
        if reason is None:
            self.may_go_on(run, outcome, paid, denied)
            return
        assert (paid, denied) == (0, 0)
        silent = reason in {"cancelled", "not_retryable"} and model.made == 1
        known = silent and outcome.kind != "failure"
        self.is_over(run, outcome, [] if known else [reason])

    def may_go_on(self, run, outcome, paid, denied):
        model = self.models[run]
        low, high = model.bounds(outcome)
        if denied:
            self.is_over(run, outcome, ["budget"])
        elif not paid:
            assert model.limit is not None
            assert self.now + high >= model.limit
            self.is_over(run, outcome, ["deadline"])
        else:
            (event,) = self.news("RetryAttempt")
            assert event.attempt == model.made + 1
            assert low <= event.delay <= high
            assert model.limit is None or self.now + event.delay < model.limit
            model.failure = outcome
            if outcome.pushback is None:
                model.previous = event.delay
            model.resumes = self.now + event.delay
            if event.delay:
                assert run.step is Step.PAUSE
                assert run.until == model.resumes
            else:
                self.an_attempt_begins(run)
        assert (paid, denied) in {(1, 0), (0, 1), (0, 0)}

    def is_over(self, run, outcome, reasons):
        assert run.step is Step.FINISH
        assert run.execution.outcome is outcome
        assert [event.reason for event in self.news("RetryExhausted")] == reasons
        assert self.news("RetryAttempt") == []

    @rule(data=st.data(), outcome=OUTCOMES)
    def an_attempt_ends(self, data, outcome):
        run = self.chosen(data, Step.ATTEMPT)
        if run is not None:
            self.an_attempt_ended(run, outcome())

    @rule(data=st.data(), code=CODES, pushback=PUSHBACKS)
    def an_attempt_fails(self, data, code, pushback):
        run = self.chosen(data, Step.ATTEMPT)
        if run is not None:
            self.an_attempt_ended(run, failed(StatusError(code, pushback=pushback), 0.0))

    @rule(data=st.data(), failures=st.lists(FAILURES, min_size=1, max_size=5))
    def it_fails_again_and_again(self, data, failures):
        run = self.chosen(data, Step.ATTEMPT) or self.chosen(data, Step.PAUSE)
        for code, pushback in failures if run is not None else ():
            if run.step is Step.PAUSE:
                self.a_pause_ends(run)
            if run.step is Step.ATTEMPT:
                self.an_attempt_ended(run, failed(StatusError(code, pushback=pushback), 0.0))

    @rule(data=st.data())
    def an_attempt_runs_out_of_time(self, data):
        run = self.chosen(data, Step.ATTEMPT)
        if run is not None and run.execution.deadline is not None:
            self.world.clock.advance(max(0.0, run.execution.deadline - self.now))
            self.an_attempt_ended(run, failed(StatusError(Code.DEADLINE_EXCEEDED), 0.0))

    @rule(data=st.data(), to_its_end=st.booleans())
    def a_pause_is_looked_at(self, data, to_its_end):
        run = self.chosen(data, Step.PAUSE)
        if run is None:
            return
        if to_its_end:
            self.a_pause_ends(run)
            return
        self.world.sink.clear()
        run.resume()
        if self.now < self.models[run].resumes:
            assert run.step is Step.PAUSE
        else:
            self.an_attempt_begins(run)

    def a_pause_ends(self, run):
        self.world.clock.advance(max(0.0, run.until - self.now))
        self.world.sink.clear()
        run.resume()
        self.an_attempt_begins(run)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data):
        run = data.draw(st.sampled_from(list(self.models)))
        if not run.execution.finished:
            self.world.sink.clear()
            run.cancel()
            run.go(Step.FINISH)
            assert run.execution.outcome.code is Code.CANCELLED
            assert self.news("RetryAttempt") == []

    @precondition(lambda self: self.models)
    @rule(data=st.data(), doubt=st.integers(0, 2))
    def something_is_delivered(self, data, doubt):
        if not doubt:
            data.draw(st.sampled_from(list(self.models))).execution.call.committed = True

    @rule(seconds=st.sampled_from([0.25, 1.0, 6.0]))
    def time_passes(self, seconds):
        self.world.clock.advance(seconds)

    @rule(refuses=st.sampled_from([True, *[False] * 5]))
    def the_policy_inside_changes_its_mind(self, refuses):
        self.ledger.refuses = refuses

    @rule(values=changes(Retry))
    def parameters_change(self, values):
        change(self.world.policies["retry"], values)

    @rule(data=st.data())
    def other_parameters_change(self, data):
        timeouts = [timeout.name for timeout in self.totals + self.attempts]
        live = self.world.policies[data.draw(st.sampled_from(["retry_budget", *timeouts]))]
        # A margin is what the models of time here leave out.
        narrowed = {"margin": st.just(0.0)} if live.name in timeouts else {}
        change(live, data.draw(changes(type(live.policy), **narrowed)))

    @invariant()
    def no_call_makes_more_attempts_than_it_may(self):
        for run, model in self.models.items():
            assert run.execution.call.attempts == model.begun <= model.policy.max_attempts

    @invariant()
    def permits_are_those_of_the_attempts_that_run(self):
        running = [run for run in self.models if run.step is Step.ATTEMPT]
        assert len(self.ledger.out) == len(running)
        assert self.budget.state(self.now)["left"] >= 0
        if isinstance(self.budget.policy, ConcurrencyBudget):
            unfinished = [run for run in self.models if not run.execution.finished]
            extra = sum(len(run.execution.call.paid) for run in unfinished)
            assert (self.budget._running, self.budget._extra) == (len(unfinished), extra)

    def teardown(self):
        if not hasattr(self, "world"):
            return
        self.ledger.refuses = False
        for run in self.models:
            if run.step is Step.PAUSE:
                self.world.clock.advance(max(0.0, run.until - self.now))
                run.resume()
            if run.step is Step.ATTEMPT:
                run.end_attempt(succeeded(0.0))
            assert run.execution.finished
        assert self.ledger.out == self.world.policies[""].out == set()


TestRetry = RetryMachine.TestCase
TestRetry.settings = settings(max_examples=200, stateful_step_count=50)


@given(
    jitter=st.sampled_from(Jitter),
    wait=st.floats(0, 10),
    initial=st.floats(0, 10),
    previous=st.floats(0, 10),
    cap=st.floats(0, 10),
)
def test_no_wait_is_longer_than_the_longest(jitter, wait, initial, previous, cap):
    spread_out = spread(jitter, wait, initial=initial, previous=previous, cap=cap)

    assert 0 <= spread_out <= cap
