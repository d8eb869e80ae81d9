import contextlib
import contextvars

import pytest

from ninelives_grpc import Method, RetryBudget, TimedOut, current_call, shield
from ninelives_grpc.call import Call, ServedCall, Side, serving
from tests.unit.alone import alone


@pytest.fixture
def serve():
    """Makes the test serve a call until it ends."""

    def begin(served):
        serving.set(served)
        return served

    token = serving.set(None)
    yield begin
    serving.reset(token)


def served(clock, deadline=None, gone=lambda: False):
    return ServedCall(Method("/shop.v1.Payments/Get"), deadline, clock.now, gone)


def test_a_method_is_named_without_the_slash_of_the_wire():
    method = Method("/shop.v1.Payments/Get")

    assert method.name == "shop.v1.Payments/Get"
    assert repr(method) == "<Method shop.v1.Payments/Get>"
    assert (method.idempotent, method.side) == (False, Side.FUNCTION)


def test_nothing_is_served_outside_of_a_handler():
    assert current_call() is None


def test_the_call_being_served_is_known_to_the_code_that_serves_it(serve, clock):
    call = serve(served(clock))

    assert current_call() is call


def test_a_shield_hides_the_call_being_served_and_shows_it_again(serve, clock):
    call = serve(served(clock, 1001.0))

    with shield():
        inside = current_call()

    assert inside is None
    assert current_call() is call


def test_a_shield_is_lifted_by_an_error_too(serve, clock):
    call = serve(served(clock, 1001.0))

    with contextlib.suppress(ZeroDivisionError), shield():
        raise ZeroDivisionError

    assert current_call() is call


def test_each_context_serves_a_call_of_its_own(serve, clock):
    call = serve(served(clock))
    context = contextvars.copy_context()

    context.run(serving.set, served(clock))

    assert current_call() is call


@pytest.mark.parametrize(
    ("deadline", "remaining"), [(None, None), (1002.5, 2.5), (1000.0, 0.0), (990.0, 0.0)]
)
def test_the_time_remaining_is_never_negative(clock, deadline, remaining):
    assert served(clock, deadline).time_remaining() == remaining


def test_work_goes_on_while_somebody_waits_for_it(clock):
    for call in (served(clock), served(clock, 1001.0)):
        call.check()

        assert not call.cancelled


def test_work_stops_when_the_deadline_has_passed(clock):
    call = served(clock, 1001.0)
    clock.advance(1.0)

    with pytest.raises(TimedOut, match=r"nobody waits for shop\.v1\.Payments/Get any more"):
        call.check()

    assert call.cancelled


def test_work_stops_when_the_client_went_away(clock):
    gone = []
    call = served(clock, gone=lambda: bool(gone))
    call.check()

    gone.append("client")

    with pytest.raises(TimedOut):
        call.check()


def test_a_call_remembers_every_budget_that_has_paid_for_it():
    budget = alone(RetryBudget(capacity=4.0))
    call = Call(Method("m"), 0.0)

    paid = [call.pay(budget, 0.0) for _ in range(4)]

    assert paid == [True, True, False, False]
    assert call.paid == (budget, budget)
