"""How an expression becomes running policies."""

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConfigError,
    Hedge,
    RateLimit,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
)
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.stacks.algebra import Expression
from tests.unit.backend import Backend, StatusError


@pytest.fixture
def stack(registry, clock):
    def build(expression, name="s"):
        return Stack(name, expression, registry=registry, clock=clock)

    return build


def test_policies_are_named_by_kind_and_numbered_from_the_second_on(stack):
    built = stack(Timeout(1.0) + Retry() + CircuitBreaker() + Timeout(2.0) + Timeout(3.0))

    assert list(built.policies) == [
        "timeout",
        "retry",
        "retry_budget",
        "circuit_breaker",
        "timeout_2",
        "timeout_3",
    ]


def test_a_given_name_is_kept_and_numbers_keep_clear_of_it(stack):
    built = stack(Timeout(1.0, name="timeout_2") + Timeout(2.0) + Timeout(3.0))

    assert list(built.policies) == ["timeout_2", "timeout", "timeout_3"]


def test_two_policies_of_one_name_are_refused(stack):
    with pytest.raises(ConfigError, match="two policies are named 'fast'; each needs a name"):
        stack(Timeout(1.0, name="fast") + Bulkhead(1, name="fast"))


@pytest.mark.parametrize("name", ["Fast", "a-b", "1st", "a/b", " ", 3])
def test_a_name_must_be_lower_snake_case(name):
    with pytest.raises(ConfigError, match=r"Timeout.name: must be lower_snake_case, not"):
        Timeout(1.0, name=name)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_stack_needs_a_name_without_slashes(stack, name):
    with pytest.raises(ConfigError, match=r"Stack.name: must be a name without slashes"):
        stack(Timeout(1.0), name)


@pytest.mark.parametrize("expression", [None, "timeout", 3])
def test_a_stack_needs_an_expression(stack, expression):
    with pytest.raises(ConfigError, match=r"s: expression: must be policies composed by"):
        stack(expression)


def test_an_expression_of_another_kind_can_not_be_compiled(stack):
    class Odd(Expression):
        pass

    with pytest.raises(ConfigError, match="is not a policy; compose policies and stacks"):
        stack(Timeout(1.0) + Odd())


def test_the_same_policy_object_is_one_running_policy_wherever_it_stands(stack):
    limit = Bulkhead(1)

    built = stack((Timeout(1.0) + limit) | (Timeout(2.0) + limit))

    assert list(built.policies) == ["timeout", "bulkhead", "timeout_2", "retry_budget"]
    left, right = built.plan.leaf.plans
    assert left.layers[1] is right.layers[1]


def test_the_same_policy_twice_in_a_row_is_asked_twice(stack):
    limit = Bulkhead(2)
    built = stack(limit + limit)
    seen = []

    built.call(lambda: seen.append(built.policy("bulkhead").in_flight))

    assert seen == [2]
    assert built.policy("bulkhead").in_flight == 0


def test_two_policies_with_the_same_numbers_are_two(stack):
    built = stack(Bulkhead(1) | Bulkhead(1))

    assert "bulkhead_2" in built.policies


def test_what_follows_a_choice_is_shared_by_its_sides(stack, call, clock):
    built = stack((Timeout(1.0) | Timeout(2.0)) + Bulkhead(5))

    left, right = built.plan.leaf.plans
    assert left.layers[1] is right.layers[1] is built.policy("bulkhead")
    assert call(built, Backend(clock, StatusError(), "second")) == "second"
    assert built.policy("bulkhead").state(0.0)["acquired"] == 2


def test_a_stack_inside_another_keeps_its_state_and_addresses(stack, clock):
    inner = stack(CircuitBreaker(), "inner")
    outer = stack(Timeout(5.0) + inner, "outer")

    for _ in range(8):
        with pytest.raises(StatusError):
            outer.call(Backend(clock, StatusError()))

    assert list(outer.policies) == ["timeout"]
    assert inner.policy("circuit_breaker").path == "inner/circuit_breaker"
    assert inner.policy("circuit_breaker").state(clock.now())["state"] == "open"


def test_a_stack_inside_two_others_is_shared(stack):
    limit = stack(RateLimit(0.001, 2.0), "limit")
    first = stack(Timeout(1.0) + limit, "first")
    second = stack(limit | Respond("refused"), "second")

    assert first.call(lambda: "first") == "first"
    assert second.call(lambda: "second") == "second"
    assert second.call(lambda: "second") == "refused"


def test_choices_of_a_nested_stack_are_its_own(stack, call, clock):
    inner = stack(Timeout(1.0) | Timeout(2.0), "inner")
    outer = stack(Retry(1) + inner, "outer")

    assert call(outer, Backend(clock, StatusError(), "second")) == "second"

    assert inner.policy("retry_budget").withdrawn == 1
    assert outer.policy("retry_budget").withdrawn == 0


def test_the_budget_of_a_retry_serves_the_whole_stack(stack):
    budget = RetryBudget(capacity=50.0)

    built = stack((Timeout(1.0) + Retry(1, budget=budget)) | Retry(1))

    assert built.policy("retry").budget is built.policy("retry_2").budget
    assert built.policy("retry_budget").policy is budget


def test_a_second_retry_may_bring_a_budget_of_its_own(stack):
    first, second = RetryBudget(), RetryBudget(capacity=50.0)

    built = stack(Retry(budget=first) | Retry(budget=second))

    assert built.policy("retry").budget.policy is first
    assert built.policy("retry_2").budget.policy is second


@pytest.mark.parametrize(
    ("expression", "facts"),
    [
        (Timeout(1.0), (False, True, False)),
        (Timeout(1.0) + Retry(), (True, True, False)),
        (Timeout(1.0) | Respond("x"), (True, True, False)),
        (Respond("x") | Respond("y"), (True, False, False)),
        (Timeout(1.0) & Respond("x"), (True, True, True)),
        (Timeout(1.0) | (Timeout(2.0) & Timeout(3.0)), (True, True, True)),
        (Timeout(1.0) + (Hedge() + Timeout(1.0)), (True, True, True)),
    ],
    ids=repr,
)
def test_a_plan_knows_what_can_happen_in_it(stack, expression, facts):
    plan = stack(expression).plan

    assert (plan.repeats, plan.attempts, plan.races) == facts


def test_a_plan_knows_the_kinds_of_policy_beyond_its_leaf(stack):
    plan = stack(Bulkhead(1) | Retry() + Timeout(1.0)).plan

    assert plan.roles == {Role.GATE, Role.RETRY, Role.TIMEOUT}
