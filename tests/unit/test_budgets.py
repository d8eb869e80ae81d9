import contextlib
import random

import pytest

from ninelives_grpc import (
    Bulkhead,
    ConcurrencyBudget,
    Refused,
    Retry,
    RetryBudget,
    Stack,
    ThrottleBudget,
    WindowBudget,
)
from ninelives_grpc.outcome import Code
from tests.unit.alone import alone
from tests.unit.backend import Backend, StatusError

STEADY = {"initial_backoff": 1.0, "jitter": "none"}


def spend(budget, now=0.0):
    """Withdraw until refused; return how often it was paid."""
    paid = 0
    while budget.withdraw(now) and paid < 1000:
        paid += 1
    return paid


def test_the_default_allows_extra_attempts_above_half_of_its_ten_tokens():
    budget = alone(RetryBudget())

    assert spend(budget) == 5
    assert budget.state(0.0) == {"left": 0.0, "withdrawn": 5, "refused": 1}


def test_ten_successes_pay_for_one_extra_attempt():
    budget = alone(RetryBudget())
    spend(budget)

    for _ in range(10):
        budget.succeed()
    after_ten = spend(budget)

    assert after_ten == 1


def test_successes_fill_it_up_to_its_capacity_and_no_further():
    budget = alone(RetryBudget())
    spend(budget)

    for _ in range(1000):
        budget.succeed()

    assert budget.full
    assert spend(budget) == 5
    assert not budget.full


def test_failures_neither_pay_nor_cost_in_the_default():
    budget = alone(RetryBudget())

    for _ in range(100):
        budget.fail()

    assert budget.left(0.0) == 5.0


@pytest.mark.parametrize(
    ("settings", "paid"),
    [
        ({"threshold": 0.0}, 10),
        ({"threshold": 1.0}, 0),
        ({"capacity": 20.0}, 10),
        ({"capacity": 0.0}, 0),
        ({"cost": 2.0}, 3),
        ({"cost": 3.0, "threshold": 0.0}, 3),
    ],
    ids=str,
)
def test_every_number_of_the_default_counts(settings, paid):
    assert spend(alone(RetryBudget(**settings))) == paid


def test_without_cost_there_is_no_budget():
    budget = alone(RetryBudget(cost=0, capacity=0.0))

    assert all(budget.withdraw(0.0) for _ in range(100))


def test_a_smaller_capacity_takes_effect_at_once():
    budget = alone(RetryBudget())

    budget.change({"capacity": 4.0})

    assert budget.left(0.0) == 2.0
    assert not budget.full


def test_a_larger_capacity_has_to_be_filled_first():
    budget = alone(RetryBudget())
    budget.succeed()

    budget.change({"capacity": 30.0})
    budget.succeed()

    assert spend(budget) == 0


def test_the_tokens_of_grpc_fall_with_failures_and_rise_with_successes():
    budget = alone(ThrottleBudget())

    for _ in range(4):
        budget.fail()
    at_six = budget.withdraw(0.0)
    budget.fail()
    at_five = budget.withdraw(0.0)
    budget.succeed()
    above_five = budget.withdraw(0.0)

    assert (at_six, at_five, above_five) == (True, False, True)


def test_the_tokens_of_grpc_stay_between_nothing_and_capacity():
    budget = alone(ThrottleBudget(ratio=1.0))

    for _ in range(50):
        budget.fail()
    empty = budget.state(0.0)["left"]
    for _ in range(50):
        budget.succeed()

    assert empty == 0.0
    assert budget.left(0.0) == 5.0


def test_the_tokens_of_grpc_fit_a_smaller_capacity():
    budget = alone(ThrottleBudget())

    budget.change({"capacity": 4.0})

    assert budget.left(0.0) == 2.0


def test_a_window_allows_a_share_of_its_calls_and_some_a_second():
    budget = alone(WindowBudget(ratio=0.2, window=10.0, minimum=1.0))

    for _ in range(100):
        budget.begin(5.0)

    assert spend(budget, 5.0) == 30


def test_a_window_forgets_calls_and_extra_attempts():
    budget = alone(WindowBudget(ratio=0.2, window=10.0, minimum=0.0))
    for _ in range(100):
        budget.begin(0.0)

    early = spend(budget, 0.0)
    late = spend(budget, 10.001)
    budget.begin(11.0)

    assert (early, late) == (20, 0)
    assert budget.left(11.0) == 0.2


def test_running_calls_allow_a_share_of_extra_attempts_and_a_minimum():
    budget = alone(ConcurrencyBudget(ratio=0.2, minimum=3))
    idle = spend(budget)
    for _ in range(50):
        budget.begin(0.0)

    busy = spend(budget)

    assert (idle, busy) == (3, 7)


def test_an_extra_attempt_that_is_over_makes_room_for_another():
    budget = alone(ConcurrencyBudget(minimum=1))
    first, second = budget.withdraw(0.0), budget.withdraw(0.0)

    budget.release()

    assert (first, second) == (True, False)
    assert budget.withdraw(0.0)


@pytest.mark.parametrize("kind", [RetryBudget, ThrottleBudget, WindowBudget, ConcurrencyBudget])
def test_every_budget_pays_for_retries(registry, call, clock, kind):
    stack = Stack("s", Retry(**STEADY, budget=kind()), registry=registry, clock=clock)

    results = [call(stack, Backend(clock, StatusError(), "answer")) for _ in range(3)]

    assert results == ["answer"] * 3
    assert stack.policy("retry_budget").withdrawn == 3


@pytest.mark.parametrize("end", ["success", "failure", "refusal", "predicate"])
def test_running_calls_are_counted_down_however_they_end(registry, call, clock, end):
    def predicate(_):
        raise ZeroDivisionError

    retry = Retry(
        **STEADY,
        budget=ConcurrencyBudget(ratio=10.0, minimum=0),
        on=predicate if end == "predicate" else None,
    )
    stack = Stack("s", retry + Bulkhead(1), registry=registry, clock=clock)
    budget = stack.policy("retry_budget")

    def function():
        assert budget.left(0.0) == 10.0
        if end == "failure":
            raise StatusError(Code.INTERNAL)
        if end == "refusal":
            stack.call(lambda: None)
        if end == "predicate":
            raise KeyError

    with contextlib.suppress(StatusError, Refused, KeyError):
        call(stack, function)

    assert budget.left(0.0) == 0.0


def test_a_call_that_ends_gives_its_extra_attempts_back(registry, call, clock):
    budget = ConcurrencyBudget(ratio=0.0, minimum=2)
    stack = Stack("s", Retry(3, **STEADY, budget=budget), registry=registry, clock=clock)

    for _ in range(5):
        with pytest.raises(StatusError):
            call(stack, Backend(clock, StatusError()))

    assert stack.policy("retry_budget").left(0.0) == 2.0
    assert stack.policy("retry_budget").withdrawn == 10


def test_an_answer_such_as_not_found_pays_in(registry, call, clock):
    stack = Stack("s", Retry(**STEADY), registry=registry, clock=clock)
    budget = stack.policy("retry_budget")
    spend(budget)

    for _ in range(11):
        with pytest.raises(StatusError):
            call(stack, Backend(clock, StatusError(Code.NOT_FOUND)))

    assert budget.withdraw(0.0)


def test_one_budget_given_to_two_stacks_is_one_budget(registry, clock):
    budget = RetryBudget()
    first = Stack("first", Retry(**STEADY, budget=budget), registry=registry, clock=clock)
    second = Stack("second", Retry(**STEADY, budget=budget), registry=registry, clock=clock)

    spend(first.policy("retry_budget"))

    assert first.policy("retry_budget") is second.policy("retry_budget")
    assert not second.policy("retry_budget").withdraw(0.0)


def test_stacks_without_a_budget_of_their_own_have_one_each(registry):
    first = Stack("first", Retry(), registry=registry)
    second = Stack("second", Retry(), registry=registry)

    assert first.policy("retry_budget") is not second.policy("retry_budget")


def amplification(budget, registry, clock):
    """Attempts for each call in a total outage of a thousand calls, after good times."""
    stack = Stack("s", Retry(3, budget=budget), registry=registry, clock=clock)
    for _ in range(1000):
        stack.call(lambda: None)
        clock.advance(0.01)
    backend = Backend(clock, StatusError(), takes=0.01)
    for _ in range(1000):
        with pytest.raises(StatusError):
            stack.call(backend)
    return backend.calls / 1000


def test_in_an_outage_the_default_hardly_amplifies_the_load(registry, clock):
    random.seed(0)

    assert amplification(None, registry, clock) <= 1.10


def test_without_a_budget_an_outage_triples_the_load(registry, clock):
    random.seed(0)

    assert amplification(RetryBudget(cost=0), registry, clock) == 3.0
