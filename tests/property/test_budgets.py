"""Budgets under random calls and changes: never negative, never above what there can be."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ninelives_grpc import ConcurrencyBudget, RetryBudget, ThrottleBudget, WindowBudget
from tests.property.changing import change, changes
from tests.unit.alone import alone


class BudgetMachine(RuleBasedStateMachine):
    """Everything that can happen to a budget; what it comes to is said by each kind's model.

    A model is `allowed()`, whether an extra attempt can be paid, and what each event does to it.
    `running` has a number for each call under way: the extra attempts that it has had.
    """

    def begin(self, budget):
        self.now = 0.0
        self.running = []
        self.paid = self.denied = 0
        self.budget = alone(budget, now=lambda: self.now)

    @property
    def policy(self):
        return self.budget.policy

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 20.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(times=st.integers(1, 12))
    def calls_come(self, times):
        for _ in range(times):
            self.budget.begin(self.now)
            self.running.append(0)
            self.came()

    @rule(times=st.integers(1, 30))
    def attempts_succeed(self, times):
        for _ in range(times):
            # Whoever reports a success may leave it out when the budget says that it is full.
            if not self.budget.full:
                self.budget.succeed()
            self.succeeded()

    @rule(times=st.integers(1, 5))
    def attempts_fail(self, times):
        for _ in range(times):
            self.budget.fail()
            self.failed()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), times=st.integers(1, 6))
    def extra_attempts_are_asked_for(self, data, times):
        call = data.draw(st.integers(0, len(self.running) - 1))
        for _ in range(times):
            expected = self.allowed()

            assert self.budget.withdraw(self.now) is expected

            if expected:
                self.running[call] += 1
                self.paid += 1
                self.withdrawn()
            else:
                self.denied += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_ends_or_is_cancelled(self, data):
        extra = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.budget.end()
        for _ in range(extra):
            self.budget.release()

    def change(self, values):
        change(self.budget, values)
        self.changed()

    def came(self):
        pass

    def succeeded(self):
        pass

    def failed(self):
        pass

    def withdrawn(self):
        pass

    def changed(self):
        pass

    @invariant()
    def what_is_left_is_never_negative_and_as_the_model_says(self):
        state = self.budget.state(self.now)
        assert state == {"left": self.left(), "withdrawn": self.paid, "refused": self.denied}
        assert state["left"] >= 0


class TokenMachine(BudgetMachine):
    def changed(self):
        self.tokens = min(self.tokens, self.policy.capacity)

    def succeeded(self):
        self.tokens = min(self.policy.capacity, self.tokens + self.policy.ratio)

    @invariant()
    def the_tokens_are_those_of_the_model(self):
        assert self.budget._tokens == self.tokens
        assert 0 <= self.tokens <= self.policy.capacity


class RetryBudgetMachine(TokenMachine):
    @initialize(
        threshold=st.sampled_from([0.0, 0.5]),
        cost=st.sampled_from([0.0, 1.0, 2.5]),
        capacity=st.sampled_from([4.0, 10.0]),
    )
    def start(self, threshold, cost, capacity):
        self.begin(RetryBudget(ratio=0.125, threshold=threshold, cost=cost, capacity=capacity))
        self.tokens = self.policy.capacity

    @rule(values=changes(RetryBudget))
    def parameters_change(self, values):
        self.change(values)

    def spare(self):
        return self.tokens - self.policy.threshold * self.policy.capacity

    def allowed(self):
        return self.policy.cost == 0 or (self.spare() > 0 and self.tokens >= self.policy.cost)

    def withdrawn(self):
        self.tokens -= self.policy.cost

    def left(self):
        cost = self.policy.cost
        return max(0.0, self.spare()) / cost if cost else self.policy.capacity


class ThrottleBudgetMachine(TokenMachine):
    @initialize(values=changes(ThrottleBudget))
    def start(self, values):
        self.begin(ThrottleBudget(**{"ratio": 0.125} | values))
        self.tokens = self.policy.capacity

    @rule(values=changes(ThrottleBudget))
    def parameters_change(self, values):
        self.change(values)

    def failed(self):
        self.tokens = max(0.0, self.tokens - 1)

    def allowed(self):
        return self.tokens > self.policy.capacity / 2

    def left(self):
        return max(0.0, self.tokens - self.policy.capacity / 2)


class WindowBudgetMachine(BudgetMachine):
    @initialize(values=changes(WindowBudget))
    def start(self, values):
        self.begin(WindowBudget(**{"ratio": 0.25, "window": 8.0} | values))
        self.calls, self.extra = [], []

    @rule(values=changes(WindowBudget))
    def parameters_change(self, values):
        self.change(values)

    def forget(self):
        """Let go of what is too old: it does not come back with a wider window."""
        oldest = self.now - self.policy.window
        self.calls = [at for at in self.calls if at >= oldest]
        self.extra = [at for at in self.extra if at >= oldest]

    def came(self):
        self.calls.append(self.now)

    def withdrawn(self):
        self.extra.append(self.now)

    def left(self):
        self.forget()
        policy = self.policy
        allowed = policy.ratio * len(self.calls) + policy.minimum * policy.window
        return max(0.0, allowed - len(self.extra))

    def allowed(self):
        return self.left() >= 1


class ConcurrencyBudgetMachine(BudgetMachine):
    @initialize(values=changes(ConcurrencyBudget))
    def start(self, values):
        self.begin(ConcurrencyBudget(**{"ratio": 0.25, "minimum": 2} | values))

    @rule(values=changes(ConcurrencyBudget))
    def parameters_change(self, values):
        self.change(values)

    def left(self):
        allowed = max(self.policy.minimum, self.policy.ratio * len(self.running))
        return max(0.0, allowed - sum(self.running))

    def allowed(self):
        return self.left() >= 1


TestRetryBudget = RetryBudgetMachine.TestCase
TestThrottleBudget = ThrottleBudgetMachine.TestCase
TestWindowBudget = WindowBudgetMachine.TestCase
TestConcurrencyBudget = ConcurrencyBudgetMachine.TestCase
