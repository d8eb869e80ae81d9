import grpc
import pytest

from ninelives_grpc import (
    CircuitBreaker,
    Fallback,
    Method,
    RateLimit,
    Refused,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    Target,
    Timeout,
)
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, failed, succeeded
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import names
from tests.unit.backend import Backend, StatusError

A, B, C = (lambda: Timeout(10.0),) * 3


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def stack(registry, clock, sink):
    def build(expression):
        return Stack("s", expression, registry=registry, clock=clock, sink=sink)

    return build


def test_the_second_side_is_not_asked_while_the_first_answers(stack, call, clock, sink):
    backend = Backend(clock, "first", "second")

    assert call(stack(A() | B()), backend) == "first"

    assert names(sink) == []


def test_the_second_side_answers_when_the_first_fails(stack, call, clock, sink):
    backend = Backend(clock, StatusError(), "second")

    assert call(stack(A() | B()), backend) == "second"

    assert [(event.name, event.policy, event.code) for event in sink.events] == [
        ("FallbackUsed", "fallback", "UNAVAILABLE")
    ]


@pytest.mark.parametrize(
    "error",
    [
        StatusError(Code.INTERNAL),
        StatusError(Code.RESOURCE_EXHAUSTED),
        StatusError(pushback=100),
        StatusError(Code.ABORTED),
        ValueError("bad"),
        Refused("full", code=Code.RESOURCE_EXHAUSTED),
    ],
    ids=repr,
)
def test_failures_and_overload_are_replaced(stack, call, clock, error):
    assert call(stack(A() | B()), Backend(clock, error, "second")) == "second"


def test_a_refusal_of_ours_is_replaced(stack, call, clock):
    built = stack(RateLimit(0.01) | Respond("second"))

    assert call(built, Backend(clock, "first")) == "first"
    assert call(built, Backend(clock, "first")) == "second"


@pytest.mark.parametrize("code", [Code.CANCELLED, Code.NOT_FOUND, Code.INVALID_ARGUMENT])
def test_a_cancelled_call_and_an_answer_are_not_replaced(stack, call, clock, code):
    backend = Backend(clock, StatusError(code), "second")

    with pytest.raises(StatusError):
        call(stack(A() | B()), backend)

    assert backend.calls == 1


def test_if_both_fail_the_first_error_is_raised_with_the_second_as_a_note(stack, call, clock):
    first, second = StatusError(details="down"), StatusError(Code.INTERNAL, details="broken")

    with pytest.raises(StatusError) as caught:
        call(stack(A() | B()), Backend(clock, first, second))

    assert caught.value is first
    assert first.__notes__ == ["the fallback failed too: INTERNAL: broken"]


def test_if_all_of_three_fail_each_is_noted(stack, call, clock):
    errors = [StatusError(details=str(n)) for n in range(3)]

    with pytest.raises(StatusError) as caught:
        call(stack(A() | B() | C()), Backend(clock, *errors))

    assert caught.value is errors[0]
    assert errors[0].__notes__ == [
        "the fallback failed too: UNAVAILABLE: 1",
        "the fallback failed too: UNAVAILABLE: 2",
    ]


def test_one_note_is_added_however_often_the_same_error_is_raised(stack, call, clock):
    error = StatusError()
    built = stack(A() | B())

    for _ in range(3):
        with pytest.raises(StatusError):
            call(built, Backend(clock, error, StatusError()))

    assert len(error.__notes__) == 1


def test_a_refusal_on_the_second_side_is_noted_too(stack, call, clock):
    built = stack(A() | RateLimit(0.01))
    call(built, Backend(clock, StatusError(), "second"))

    with pytest.raises(StatusError) as caught:
        call(built, Backend(clock, StatusError()))

    assert "the fallback failed too: RESOURCE_EXHAUSTED: rate limit" in caught.value.__notes__[0]


def test_two_refusals_raise_the_first(stack, call):
    built = stack(RateLimit(0.01, name="left") | RateLimit(0.01, name="right"))
    call(built, lambda: None)
    call(built, lambda: None)

    with pytest.raises(Refused) as caught:
        call(built, lambda: None)

    assert caught.value.policy == "left"
    assert len(caught.value.__notes__) == 1


def test_the_second_side_is_paid_from_the_budget(stack, call, clock, sink):
    budget = RetryBudget(capacity=2.0, ratio=0.0)
    built = stack(Retry(1, budget=budget) + (A() | B()))

    assert call(built, Backend(clock, StatusError(), "second")) == "second"
    with pytest.raises(StatusError):
        call(built, Backend(clock, StatusError(), "second"))

    assert [event.reason for event in sink.events if event.name == "FallbackSkipped"] == ["budget"]


def test_a_stack_without_retry_has_a_budget_for_its_fallback(stack, clock):
    built = stack(A() | B())

    # Ten tokens, of which half may be spent; each success of the second side pays a tenth of one.
    for _ in range(6):
        built.call(Backend(clock, StatusError(), "second"))

    assert built.policy("retry_budget").withdrawn == 6
    with pytest.raises(StatusError):
        built.call(Backend(clock, StatusError(), "second"))


def test_successes_fill_the_budget_of_a_stack_without_retry(stack, clock):
    built = stack(A() | B())
    for _ in range(6):
        built.call(Backend(clock, StatusError(), "second"))

    for _ in range(10):
        built.call(Backend(clock, "first"))

    assert built.call(Backend(clock, StatusError(), "second")) == "second"


def test_another_target_costs_nothing(stack):
    with grpc.insecure_channel("localhost:1") as elsewhere:
        built = stack(A() | Target(elsewhere))
        for _ in range(20):
            execution = Execution(built.plan, Call(Method("m"), 0.0), None)
            execution.start(0.0)
            assert execution.settle(failed(StatusError(), 0.1), 0.1) is Step.ATTEMPT
            assert execution.current().target is elsewhere
            assert execution.settle(succeeded(0.1, None), 0.2) is Step.FINISH

    assert "retry_budget" not in built.policies


def test_a_local_answer_is_free(stack, call, clock):
    built = stack(A() | Respond("local"))

    answers = [call(built, Backend(clock, StatusError())) for _ in range(20)]

    assert answers == ["local"] * 20
    assert "retry_budget" not in built.policies


def test_a_committed_call_is_not_replaced(stack, sink):
    request = Call(Method("m"), 0.0)
    execution = Execution(stack(A() | B()).plan, request, None)
    execution.start(0.0)

    request.committed = True
    step = execution.settle(failed(StatusError(), 0.0), 0.0)

    assert step is Step.FINISH
    assert execution.outcome.code is Code.UNAVAILABLE
    assert [(event.name, event.reason) for event in sink.events] == [
        ("FallbackSkipped", "committed")
    ]


def test_fallbacks_nest(stack, call, clock):
    built = stack((A() | (B() | Respond("inner"))) | Respond("outer"))

    assert call(built, Backend(clock, StatusError())) == "inner"


def test_a_retry_outside_repeats_both_sides(stack, call, clock):
    free = RetryBudget(cost=0)
    backend = Backend(clock, *[StatusError()] * 5, "sixth")
    built = stack(Retry(3, initial_backoff=1.0, jitter="none", budget=free) + (A() | B()))

    assert call(built, backend) == "sixth"

    assert backend.waits == [0.0, 1.0, 0.0, 2.0, 0.0]


def test_a_retry_inside_is_done_before_the_second_side_is_asked(stack, call, clock):
    backend = Backend(clock, *[StatusError()] * 3, "second side")

    assert call(stack(Retry(3, jitter="none") | B()), backend) == "second side"

    assert backend.calls == 4


def test_the_wait_of_a_retry_on_the_second_side_is_kept(stack, call, clock):
    backend = Backend(clock, StatusError(), StatusError(), "answer")
    built = stack(A() | Retry(3, initial_backoff=1.0, jitter="none"))

    assert call(built, backend) == "answer"

    assert backend.waits == [0.0, 1.0]


def test_a_layer_outside_sees_the_outcome_of_the_whole(stack, call, clock):
    built = stack(CircuitBreaker(name="outside") + (CircuitBreaker() | Respond("local")))

    for _ in range(30):
        call(built, Backend(clock, StatusError()))

    now = clock.now()
    assert built.policy("outside").state(now)["state"] == "closed"
    assert built.policy("circuit_breaker").state(now)["state"] == "open"


def test_the_class_composes_like_the_operator(stack, call, clock):
    built = stack(Fallback(A(), Respond("local")))

    assert call(built, Backend(clock, StatusError())) == "local"
