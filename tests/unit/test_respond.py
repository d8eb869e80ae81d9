import pytest

from ninelives_grpc import CircuitBreaker, Method, Respond, Retry, Stack
from ninelives_grpc.call import Call
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import alone
from tests.unit.backend import Backend, StatusError


@pytest.fixture
def stack(registry, clock):
    def build(expression, **settings):
        return Stack("s", expression, registry=registry, clock=clock, **settings)

    return build


@pytest.mark.parametrize("value", ["answer", None, [1, 2]])
def test_a_value_is_given_in_place_of_the_backends(stack, call, clock, value):
    backend = Backend(clock, "never")

    assert call(stack(Respond(value)), backend) == value

    assert backend.calls == 0


def test_a_function_is_given_the_call_and_returns_the_answer():
    request = Call(Method("shop.v1.Payments/Get"), 0.0, None, [("tenant", "anna")], "request")
    flow = alone(Respond(lambda call: (call.method.name, call.request, call.metadata)))

    answer = flow.answer(request, 0.0)

    assert answer == ("shop.v1.Payments/Get", "request", [("tenant", "anna")])


def test_what_the_function_raises_is_raised_to_the_caller(stack, call):
    def broken(_):
        raise KeyError("no such answer")

    with pytest.raises(KeyError, match="no such answer"):
        call(stack(Respond(broken)), lambda: None)


def test_an_answer_that_can_not_be_given_is_tried_again_when_told(stack, call, clock):
    answers = Backend(clock, StatusError(), "answer")
    retry = Retry(initial_backoff=1.0, jitter="none")

    assert call(stack(retry + Respond(lambda _: answers())), lambda: None) == "answer"


def test_answers_are_counted_and_told_of(stack, call):
    sink = MemorySink()
    built = stack(Respond("answer"), sink=sink)

    call(built, lambda: None)
    call(built, lambda: None)

    assert built.policy("respond").state(0.0) == {"responded": 2}
    assert [(event.name, event.policy) for event in sink.events] == [("Responded", "respond")] * 2


def test_what_stands_inside_is_never_reached(stack):
    built = stack(Respond("answer") + CircuitBreaker())

    assert list(built.policies) == ["respond"]
    assert not built.plan.attempts
