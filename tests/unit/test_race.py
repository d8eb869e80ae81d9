import asyncio
import threading

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConcurrencyBudget,
    Method,
    Race,
    RateLimit,
    Refused,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
    current_call,
)
from ninelives_grpc.call import Call
from ninelives_grpc.testing import MemorySink, VirtualClock
from tests.unit.alone import names
from tests.unit.backend import StatusError

LEFT, RIGHT = Timeout(1.0, name="left"), Timeout(2.0, name="right")


def on_the_left():
    """Tell the sides apart by what they have left."""
    return current_call().deadline == 1001.0


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def stack(registry, clock, sink):
    def build(expression):
        return Stack("s", expression, registry=registry, clock=clock, sink=sink)

    return build


@pytest.fixture
def release():
    """Lets go of a loser; no thread outlives the test."""
    event = threading.Event()
    yield event
    event.set()
    join_losers()


def join_losers():
    for thread in threading.enumerate():
        if thread.name == "ninelives-race":
            thread.join(10)


def use_up(stack, *limits):
    for name in limits:
        stack.policy(name).admit(Call(Method("m"), 1000.0), 1000.0, None)


async def rounds(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_first_success_wins_while_the_loser_runs_to_its_end(stack, sink, release):
    built = stack((LEFT + Bulkhead(1)) & RIGHT)

    def function():
        if on_the_left():
            release.wait(10)
            return "left"
        return "right"

    result = built.call(function)
    meanwhile = built.policy("bulkhead").in_flight
    release.set()
    join_losers()

    assert result == "right"
    assert (meanwhile, built.policy("bulkhead").in_flight) == (1, 0)
    assert names(sink) == ["RaceStarted", "RaceWon"]
    assert (sink.events[0].sides, sink.events[1].side) == (2, 1)


def test_a_failure_waits_for_the_other_side(stack, release):
    def function():
        if on_the_left():
            release.set()
            raise StatusError
        release.wait(10)
        return "right"

    assert stack(LEFT & RIGHT).call(function) == "right"


def test_if_both_fail_the_left_error_is_raised_with_the_right_as_a_note(stack, call):
    def function():
        raise StatusError(details="left" if on_the_left() else "right")

    with pytest.raises(StatusError) as caught:
        call(stack(LEFT & RIGHT), function)

    assert caught.value.details() == "left"
    assert caught.value.__notes__ == [
        "the other side of the race failed too: UNAVAILABLE: right",
    ]


def test_if_both_refuse_the_left_refusal_is_raised(stack, call):
    built = stack(RateLimit(0.001, name="a") & RateLimit(0.001, name="b"))
    use_up(built, "a", "b")

    with pytest.raises(Refused) as caught:
        call(built, lambda: None)

    assert caught.value.policy == "a"


def test_the_second_side_is_paid_from_the_budget(stack, call):
    built = stack(LEFT & RIGHT)

    call(built, lambda: None)

    assert built.policy("retry_budget").withdrawn == 1


def test_without_budget_only_the_left_side_runs(stack, call, sink):
    built = stack(Retry(1, budget=RetryBudget(capacity=0)) + (LEFT & RIGHT))
    sides = []

    call(built, lambda: sides.append(on_the_left()))

    assert sides == [True]
    assert [event.sides for event in sink.events if event.name == "RaceStarted"] == [1]


def test_a_local_answer_races_for_free(stack, call):
    built = stack(RateLimit(0.001) & Respond("local"))
    use_up(built, "rate_limit")

    assert call(built, lambda: "remote") == "local"

    assert "retry_budget" not in built.policies


def test_a_loser_that_fails_is_not_repeated_and_teaches_nothing(stack, release):
    budget = ConcurrencyBudget(ratio=0.0, minimum=5)
    built = stack((LEFT + Retry(5, jitter="none", budget=budget) + CircuitBreaker()) & RIGHT)
    tries = []

    def function():
        if not on_the_left():
            return "right"
        tries.append(None)
        release.wait(10)
        raise StatusError

    result = built.call(function)
    release.set()
    join_losers()

    assert result == "right"
    assert len(tries) == 1
    assert built.policy("circuit_breaker").state(1000.0)["calls"] == 0
    assert built.policy("retry_budget").left(1000.0) == 5


def test_a_loser_that_waits_to_try_again_does_not(registry, release):
    class Slow(VirtualClock):
        def wait(self, woken, until):
            waiting.set()
            release.wait(10)
            super().wait(woken, until)

    waiting, tries = threading.Event(), []
    expression = (LEFT + Retry(5, initial_backoff=0.1, jitter="none")) & RIGHT
    built = Stack("s", expression, registry=registry, clock=Slow())

    def function():
        if not on_the_left():
            waiting.wait(10)
            return "right"
        tries.append(None)
        raise StatusError

    result = built.call(function)
    release.set()
    join_losers()

    assert result == "right"
    assert len(tries) == 1


def test_under_asyncio_the_loser_is_cancelled_and_not_waited_for(stack, sink):
    seen = []

    async def function():
        if not on_the_left():
            return "right"
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")
            await rounds(1)
            seen.append("cleaned up")

    async def main():
        built = stack((LEFT + Bulkhead(1)) & RIGHT)
        result = await built.acall(function)
        at_the_answer = list(seen)
        await rounds()
        return result, at_the_answer, built.policy("bulkhead").in_flight

    result, at_the_answer, in_flight = asyncio.run(main())

    assert (result, at_the_answer, in_flight) == ("right", [], 0)
    assert seen == ["cancelled", "cleaned up"]
    assert sink.events[-1].side == 1


def test_under_asyncio_cancelling_the_call_cancels_both_sides(stack):
    cancelled = []

    async def function():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(on_the_left())

    async def main():
        built = stack(Bulkhead(1, name="whole") + ((LEFT + Bulkhead(1)) & RIGHT))
        task = asyncio.ensure_future(built.acall(function))
        await rounds()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rounds()
        return built.policy("whole").in_flight, built.policy("bulkhead").in_flight

    assert asyncio.run(main()) == (0, 0)
    assert sorted(cancelled) == [False, True]


def test_a_retry_outside_runs_the_race_again(stack, call):
    tries, lock = [], threading.Lock()

    def function():
        with lock:
            tries.append(None)
            if len(tries) <= 2:
                raise StatusError
        return "second race"

    retry = Retry(2, initial_backoff=0.0, budget=RetryBudget(cost=0))

    assert call(stack(retry + (LEFT & RIGHT)), function) == "second race"


def test_what_an_application_function_raises_on_both_sides_is_raised(stack, call):
    def broken(_):
        raise ZeroDivisionError

    built = stack(CircuitBreaker(scope=broken) & CircuitBreaker(scope=broken))

    with pytest.raises(ZeroDivisionError):
        call(built, lambda: None)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_world_on_both_sides_is_felt_by_the_caller(stack, error):
    def function():
        raise error

    with pytest.raises(error):
        stack(LEFT & RIGHT).call(function)


def test_what_an_application_function_raises_on_one_side_only_loses(stack, call):
    def broken(_):
        raise ZeroDivisionError

    assert call(stack(CircuitBreaker(scope=broken) & RIGHT), lambda: "right") == "right"


def test_races_nest_and_stand_behind_fallbacks(stack, call):
    race_of_races = stack((LEFT & RIGHT) & (Timeout(3.0) & Timeout(4.0)))
    behind = stack(RateLimit(0.001) | (Timeout(5.0) & Timeout(6.0)))
    use_up(behind, "rate_limit")

    assert call(race_of_races, lambda: "answer") == "answer"
    assert call(behind, lambda: "raced") == "raced"


def test_the_class_composes_like_the_operator(stack, call):
    assert call(stack(Race(Timeout(1.0), Timeout(2.0))), lambda: "answer") == "answer"
