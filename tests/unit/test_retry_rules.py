"""What is repeated and what is not, one decision at a time."""

import pytest

from ninelives_grpc import ConfigError, Method, Retry, RetryBudget
from ninelives_grpc.call import Call
from ninelives_grpc.errors import TimedOut
from ninelives_grpc.outcome import Code, cancelled, failed, refused
from ninelives_grpc.policies.gate import Refusal
from ninelives_grpc.policies.retry import Attempts
from tests.unit.alone import alone, alone_with_events
from tests.unit.backend import StatusError

GET = "shop.v1.Payments/Get"


def call_of(name=GET, *, idempotent=False, inherited=None):
    return Call(Method(name, idempotent=idempotent), 0.0, inherited=inherited)


def decide(policy, outcome, call=None, *, deadline=None, now=0.0):
    """Return the wait before another attempt, or the reason not to make one."""
    flow, sink = alone_with_events(policy)
    flow.budget = alone(RetryBudget())
    delay = flow.next_delay(Attempts(policy), outcome, call or call_of(), deadline, now)
    reasons = [event.reason for event in sink.events if event.name == "RetryExhausted"]
    return delay if delay is not None else "".join(reasons)


def steady(**settings):
    return Retry(initial_backoff=1.0, jitter="none", **settings)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_by_default_only_unavailable_is_repeated(code):
    decision = decide(steady(), failed(StatusError(code), 0.0))

    assert (decision == 1.0) is (code is Code.UNAVAILABLE)


def test_exhausted_resources_are_repeated_only_when_told_how_long_to_wait():
    told = failed(StatusError(Code.RESOURCE_EXHAUSTED, pushback=200), 0.0)
    told_to_stop = failed(StatusError(Code.RESOURCE_EXHAUSTED, pushback=-1), 0.0)
    untold = failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.0)

    assert decide(steady(), told) == 0.2
    assert decide(steady(), told_to_stop) == "pushback"
    assert decide(steady(), untold) == ""


@pytest.mark.parametrize("ours", [True, False])
def test_a_deadline_is_repeated_only_when_it_was_ours(ours):
    outcome = failed(TimedOut("late"), 1.0)
    outcome.timed_out = ours

    assert decide(steady(), outcome) == (1.0 if ours else "not_retryable")


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
@pytest.mark.parametrize(
    ("settings", "name", "marked", "repeated"),
    [
        ({}, GET, False, False),
        ({}, GET, True, True),
        ({"idempotent": True}, GET, False, True),
        ({"idempotent": [GET]}, GET, False, True),
        ({"idempotent": [GET]}, "shop.v1.Payments/Pay", False, False),
        ({"idempotent": [GET]}, "shop.v1.Payments/GetAll", False, False),
        ({"idempotent": [GET]}, "shop.v1.Payments/Pay", True, True),
        ({"idempotent": False}, GET, True, True),
    ],
)
def test_more_codes_are_repeated_where_that_is_known_to_do_no_harm(
    code, settings, name, marked, repeated
):
    decision = decide(
        steady(**settings), failed(StatusError(code), 0.0), call_of(name, idempotent=marked)
    )

    assert decision == (1.0 if repeated else "not_retryable")


def test_idempotence_does_not_make_everything_worth_repeating():
    policy = steady(idempotent=True)

    for code in (Code.NOT_FOUND, Code.DATA_LOSS, Code.ABORTED, Code.DEADLINE_EXCEEDED):
        assert not isinstance(decide(policy, failed(StatusError(code), 0.0)), float)


def test_codes_are_repeated_besides_the_usual_ones():
    policy = steady(codes=[Code.ABORTED])

    assert decide(policy, failed(StatusError(Code.ABORTED), 0.0)) == 1.0
    assert decide(policy, failed(StatusError(Code.UNAVAILABLE), 0.0)) == 1.0


def test_a_status_that_grpc_has_lost_is_repeated():
    lost = failed(StatusError(Code.INTERNAL, details="Internal error from Core"), 0.0)

    assert decide(steady(), lost) == 1.0


@pytest.mark.parametrize(
    "on",
    [KeyError, LookupError, (ValueError, KeyError), lambda error: "x" in error.args],
    ids=["class", "base class", "tuple", "function"],
)
def test_exceptions_of_functions_are_repeated_when_told(on):
    policy = steady(on=on)

    assert decide(policy, failed(KeyError("x"), 0.0)) == 1.0
    assert decide(policy, failed(OSError("y"), 0.0)) == "not_retryable"
    assert decide(steady(), failed(KeyError("x"), 0.0)) == "not_retryable"


def test_a_predicate_that_fails_is_logged_and_means_no(caplog):
    policy = steady(on=lambda _: 1 / 0)

    assert decide(policy, failed(KeyError("x"), 0.0)) == "not_retryable"

    assert "the `on` function of stack/retry failed" in caplog.text


def test_connection_errors_of_functions_count_as_unavailable():
    assert decide(steady(), failed(ConnectionResetError(), 0.0)) == 1.0


def test_a_refusal_of_ours_is_never_repeated():
    refusal = Refusal("circuit_breaker", "open", code=Code.UNAVAILABLE)

    assert decide(steady(), refused(refusal)) == ""


def test_a_cancelled_call_is_never_repeated():
    policy = steady(codes=[Code.CANCELLED])

    assert decide(policy, cancelled()) == ""


def test_nothing_is_repeated_once_something_was_delivered():
    call = call_of()
    call.committed = True

    assert decide(steady(), failed(StatusError(), 0.0), call) == "committed"


@pytest.mark.parametrize(("deadline", "decision"), [(6.0, "deadline"), (6.001, 1.0), (None, 1.0)])
def test_the_deadline_must_leave_room_for_the_wait(deadline, decision):
    outcome = failed(StatusError(), 0.0)

    assert decide(steady(), outcome, deadline=deadline, now=5.0) == decision


def test_the_deadline_of_the_call_being_served_must_leave_room_too():
    outcome = failed(StatusError(), 0.0)

    assert decide(steady(), outcome, call_of(inherited=5.5), now=5.0) == "deadline"
    assert decide(steady(), outcome, call_of(inherited=6.5), now=5.0) == 1.0


def test_budget_is_paid_before_the_wait_and_only_for_what_is_repeated():
    flow = alone(steady())
    flow.budget = alone(RetryBudget())
    call = call_of()

    flow.next_delay(Attempts(flow.policy), failed(StatusError(), 0.0), call, 0.5, 0.0)
    refused_by_deadline = flow.budget.withdrawn
    flow.next_delay(Attempts(flow.policy), failed(StatusError(), 0.0), call, None, 0.0)

    assert refused_by_deadline == 0
    assert flow.budget.withdrawn == 1
    assert call.paid == (flow.budget,)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"idempotent": GET}, "idempotent must be true, false or a list of methods"),
        ({"codes": ["UNAVAILABLE"]}, "codes must be status codes, and 'UNAVAILABLE' is none"),
        ({"on": "KeyError"}, "on must be an exception class or classes, or a function"),
        ({"budget": 3}, "budget must be a budget, not 3"),
        ({"max_attempts": 0}, "max_attempts: must be a whole number from 1 to 100 attempts"),
        ({"jitter": "some"}, "one of full, equal, decorrelated, a6, none, not 'some'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings, says):
    with pytest.raises(ConfigError) as caught:
        Retry(**settings)

    assert says in str(caught.value)
    assert str(caught.value).startswith("Retry")
