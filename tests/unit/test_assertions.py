"""What a test of a user's claims of a stack holds, or says what is the case."""

import pytest

from ninelives_grpc import CircuitBreaker, Refused, Retry, Stack
from ninelives_grpc.outcome import Code
from ninelives_grpc.testing import assert_ended, assert_happened
from tests.unit.backend import StatusError


@pytest.fixture
def stack(registry, clock):
    """A stack with a success at the second attempt, a failure, and a refused call."""
    made = Stack("s", Retry(2) + CircuitBreaker(), registry=registry, clock=clock)
    answers = [StatusError(Code.UNAVAILABLE), None, StatusError(Code.NOT_FOUND)]

    def work():
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    made.call(work)
    with pytest.raises(StatusError):
        made.call(work)
    made.parameters["circuit_breaker/mode"].set("open", by="test")
    with pytest.raises(Refused):
        made.call(work)
    return made


def test_calls_have_ended_as_claimed(stack):
    assert_ended(stack, success=2, refused=1)


@pytest.mark.parametrize("claim", [{}, {"success": 2}, {"success": 1, "failure": 1, "refused": 1}])
def test_a_wrong_claim_of_calls_says_how_they_ended(stack, claim):
    with pytest.raises(AssertionError, match="calls of stack 's': refused=1, success=2, not "):
        assert_ended(stack, **claim)


def test_events_have_happened_as_claimed(stack):
    assert_happened(stack, RetryAttempt=1, CircuitRefused=1, CircuitOpened=0)
    assert_happened(stack)


def test_a_wrong_claim_of_events_says_how_many_there_were(stack):
    with pytest.raises(AssertionError, match="RetryAttempt=1, not CircuitOpened=1, RetryAttempt=1"):
        assert_happened(stack, RetryAttempt=1, CircuitOpened=1)


@pytest.mark.parametrize("name", ["Nonsense", "RequestSucceeded"])
def test_what_is_not_counted_can_not_be_claimed(stack, name):
    with pytest.raises(TypeError, match=f"there is no event '{name}'; there are "):
        assert_happened(stack, **{name: 1})
    with pytest.raises(TypeError, match="there is no result 'good'; there are success, "):
        assert_ended(stack, good=1)
