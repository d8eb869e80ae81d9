"""Budgets under random calls and changes: never negative, never above what there can be."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import ConcurrencyBudget, RetryBudget, ThrottleBudget, WindowBudget
from tests.unit.alone import alone

TOLERANCE = 1e-6


class TokenMachine(RuleBasedStateMachine):
    """What both kinds of token have in common."""

    @rule(times=st.integers(1, 30))
    def calls_succeed(self, times):
        for _ in range(times):
            self.budget.succeed()
            self.tokens = min(self.capacity, self.tokens + self.ratio)

    @rule(capacity=st.sampled_from([1.0, 4.0, 10.0, 25.0]))
    def the_capacity_changes(self, capacity):
        self.budget.change({"capacity": capacity})
        self.capacity = capacity
        self.tokens = min(self.tokens, capacity)

    @invariant()
    def the_tokens_are_those_of_the_model(self):
        assert abs(self.budget._tokens - self.tokens) < TOLERANCE
        assert 0 <= self.budget._tokens <= self.capacity
        assert self.budget.left(0.0) >= 0


class RetryBudgetMachine(TokenMachine):
    @initialize(threshold=st.sampled_from([0.0, 0.5, 1.0]), cost=st.sampled_from([0.0, 1.0, 2.5]))
    def begin(self, threshold, cost):
        self.capacity = self.tokens = 10.0
        self.ratio, self.threshold, self.cost = 0.125, threshold, cost
        self.budget = alone(RetryBudget(ratio=0.125, threshold=threshold, cost=cost))

    @rule()
    def an_extra_attempt_is_asked_for(self):
        allowed = self.tokens > self.threshold * self.capacity and self.tokens >= self.cost

        paid = self.budget.withdraw(0.0)

        assert paid is (allowed or self.cost == 0)
        if allowed:
            self.tokens -= self.cost

    @invariant()
    def when_it_says_that_it_is_full_a_success_would_add_nothing(self):
        assert not self.budget.full or self.tokens >= self.capacity - TOLERANCE


class ThrottleBudgetMachine(TokenMachine):
    @initialize()
    def begin(self):
        self.capacity = self.tokens = 10.0
        self.ratio = 0.125
        self.budget = alone(ThrottleBudget(ratio=0.125))

    @rule(times=st.integers(1, 5))
    def calls_fail(self, times):
        for _ in range(times):
            self.budget.fail()
            self.tokens = max(0.0, self.tokens - 1)

    @rule()
    def an_extra_attempt_is_asked_for(self):
        assert self.budget.withdraw(0.0) is (self.tokens > self.capacity / 2)


class WindowBudgetMachine(RuleBasedStateMachine):
    @initialize(ratio=st.sampled_from([0.0, 0.25, 1.0]), minimum=st.sampled_from([0.0, 0.25, 2.0]))
    def begin(self, ratio, minimum):
        self.now, self.calls, self.extra = 0.0, [], []
        self.ratio, self.minimum = ratio, minimum
        self.budget = alone(WindowBudget(ratio=ratio, minimum=minimum, window=8.0))

    def recent(self, times):
        return sum(at >= self.now - 8.0 for at in times)

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 20.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(times=st.integers(1, 20))
    def calls_come(self, times):
        for _ in range(times):
            self.budget.begin(self.now)
            self.calls.append(self.now)

    @rule()
    def an_extra_attempt_is_asked_for(self):
        allowed = self.ratio * self.recent(self.calls) + self.minimum * 8.0
        expected = allowed - self.recent(self.extra) >= 1

        assert self.budget.withdraw(self.now) is expected

        if expected:
            self.extra.append(self.now)

    @invariant()
    def what_is_left_is_what_a_list_would_say(self):
        allowed = self.ratio * self.recent(self.calls) + self.minimum * 8.0
        assert self.budget.left(self.now) == max(0.0, allowed - self.recent(self.extra))


class ConcurrencyBudgetMachine(RuleBasedStateMachine):
    @initialize(ratio=st.sampled_from([0.0, 0.25, 1.0]), minimum=st.integers(0, 3))
    def begin(self, ratio, minimum):
        self.running = self.extra = 0
        self.ratio, self.minimum = ratio, minimum
        self.budget = alone(ConcurrencyBudget(ratio=ratio, minimum=minimum))

    @rule()
    def a_call_comes(self):
        self.budget.begin(0.0)
        self.running += 1

    @precondition(lambda self: self.running)
    @rule()
    def a_call_ends(self):
        self.budget.end()
        self.running -= 1

    @rule()
    def an_extra_attempt_is_asked_for(self):
        expected = max(self.minimum, self.ratio * self.running) - self.extra >= 1

        assert self.budget.withdraw(0.0) is expected

        self.extra += expected

    @precondition(lambda self: self.extra)
    @rule()
    def an_extra_attempt_is_over(self):
        self.budget.release()
        self.extra -= 1

    @rule(ratio=st.sampled_from([0.0, 0.25, 1.0]))
    def the_ratio_changes(self, ratio):
        self.budget.change({"ratio": ratio})
        self.ratio = ratio

    @invariant()
    def what_is_left_is_never_negative(self):
        allowed = max(self.minimum, self.ratio * self.running)
        assert self.budget.left(0.0) == max(0.0, allowed - self.extra)


TestRetryBudget = RetryBudgetMachine.TestCase
TestThrottleBudget = ThrottleBudgetMachine.TestCase
TestWindowBudget = WindowBudgetMachine.TestCase
TestConcurrencyBudget = ConcurrencyBudgetMachine.TestCase
