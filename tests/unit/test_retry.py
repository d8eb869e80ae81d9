import pytest

from ninelives_grpc import RateLimit, Retry, RetryBudget, Stack, Timeout
from ninelives_grpc.outcome import Code
from ninelives_grpc.testing import MemorySink
from tests.unit.backend import Backend, StatusError

STEADY = {"initial_backoff": 1.0, "jitter": "none"}
FREE = RetryBudget(cost=0)


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def stack(registry, clock, sink):
    def build(expression):
        return Stack("s", expression, registry=registry, clock=clock, sink=sink)

    return build


def stops(sink):
    return [event.reason for event in sink.events if event.name == "RetryExhausted"]


def test_a_passing_failure_is_repeated_and_the_answer_returned(stack, call, clock):
    backend = Backend(clock, StatusError(), "answer")

    assert call(stack(Retry(**STEADY)), backend) == "answer"

    assert backend.calls == 2


def test_attempts_are_counted_in_total_and_the_last_error_is_raised_as_itself(
    stack, call, clock, sink
):
    errors = [StatusError(details=str(n)) for n in range(3)]
    backend = Backend(clock, *errors)

    with pytest.raises(StatusError) as caught:
        call(stack(Retry(**STEADY)), backend)

    assert caught.value is errors[2]
    assert backend.calls == 3
    assert stops(sink) == ["max_attempts"]


def test_one_attempt_in_total_does_not_retry(stack, call, clock):
    backend = Backend(clock, StatusError())

    with pytest.raises(StatusError):
        call(stack(Retry(1)), backend)

    assert backend.calls == 1


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        ({}, [0.1, 0.2, 0.4]),
        ({"multiplier": 3.0}, [0.1, 0.3, 0.9]),
        ({"backoff": "linear"}, [0.1, 0.2, 0.3]),
        ({"backoff": "constant"}, [0.1, 0.1, 0.1]),
        ({"max_backoff": 0.25}, [0.1, 0.2, 0.25]),
        ({"initial_backoff": 9.0}, [5.0, 5.0, 5.0]),
    ],
    ids=str,
)
def test_the_wait_grows_as_told_up_to_the_cap(stack, call, clock, settings, waits):
    backend = Backend(clock, StatusError(), takes=0.5)

    with pytest.raises(StatusError):
        call(stack(Retry(4, jitter="none", **settings)), backend)

    assert backend.waits == waits


def test_the_server_says_exactly_how_long_to_wait_and_backoff_starts_again(stack, call, clock):
    replies = [StatusError(), StatusError(), StatusError(pushback=300), StatusError(), "answer"]
    backend = Backend(clock, *replies)

    call(stack(Retry(9, initial_backoff=1.0, jitter="none", budget=FREE)), backend)

    assert backend.waits == [1.0, 2.0, 0.3, 1.0]


def test_pushback_has_no_jitter(stack, call, clock):
    backend = Backend(clock, StatusError(pushback=250))

    with pytest.raises(StatusError):
        call(stack(Retry(5, jitter="full")), backend)

    assert backend.waits == [0.25] * 4


@pytest.mark.parametrize("pushback", [-1, "soon", "", 60_001])
def test_a_server_that_wants_no_retry_gets_none(stack, call, clock, sink, pushback):
    backend = Backend(clock, StatusError(pushback=pushback))

    with pytest.raises(StatusError):
        call(stack(Retry()), backend)

    assert backend.calls == 1
    assert stops(sink) == ["pushback"]


def test_the_longest_pushback_allowed_is_obeyed(stack, call, clock):
    backend = Backend(clock, StatusError(pushback=60_000), "answer")

    call(stack(Retry()), backend)

    assert backend.waits == [60.0]


def test_max_pushback_is_a_parameter(stack, call, clock):
    backend = Backend(clock, StatusError(pushback=61_000), "answer")

    assert call(stack(Retry(max_pushback=61.0)), backend) == "answer"


def test_a_wait_that_would_outlast_the_deadline_is_not_begun(stack, call, clock, sink):
    error = StatusError()
    backend = Backend(clock, error)

    with pytest.raises(StatusError) as caught:
        call(stack(Timeout(2.5) + Retry(9, **STEADY)), backend)

    assert caught.value is error
    assert backend.waits == [1.0]
    assert clock.now() == 1001.0
    assert stops(sink) == ["deadline"]


def test_a_pushback_beyond_the_deadline_gives_the_original_error_at_once(stack, call, clock, sink):
    backend = Backend(clock, StatusError(pushback=3000))

    with pytest.raises(StatusError):
        call(stack(Timeout(2.5) + Retry()), backend)

    assert (backend.calls, clock.now()) == (1, 1000.0)
    assert stops(sink) == ["deadline"]


def test_one_deadline_covers_all_attempts_and_waits(stack, call, clock):
    backend = Backend(clock, StatusError(), takes=1.0)

    with pytest.raises(StatusError):
        call(stack(Timeout(6.0) + Retry(99, **STEADY, backoff="constant", budget=FREE)), backend)

    assert backend.times == [1000.0, 1002.0, 1004.0]


def test_an_attempt_that_ran_into_its_own_limit_is_repeated(stack, call, clock):
    backend = Backend(clock, StatusError(), takes=2.0)
    slow_once = Backend(clock, "late", "in time")

    def function():
        if not slow_once.calls:
            backend._clock.advance(2.0)
        return slow_once()

    assert call(stack(Timeout(10.0) + Retry(**STEADY) + Timeout(1.0)), function) == "in time"


@pytest.mark.parametrize("error", [StatusError(Code.DEADLINE_EXCEEDED), TimeoutError("theirs")])
def test_a_deadline_that_is_not_ours_is_not_repeated(stack, call, clock, sink, error):
    backend = Backend(clock, error)

    with pytest.raises(type(error)):
        call(stack(Retry() + Timeout(5.0)), backend)

    assert backend.calls == 1
    assert stops(sink) == ["not_retryable"]


def test_without_budget_the_original_error_is_given_back(stack, call, clock, sink):
    error = StatusError()
    backend = Backend(clock, error)

    with pytest.raises(StatusError) as caught:
        call(stack(Retry(budget=RetryBudget(capacity=0))), backend)

    assert caught.value is error
    assert (backend.calls, clock.now()) == (1, 1000.0)
    assert stops(sink) == ["budget"]


def test_a_refused_repetition_raises_the_original_error_with_a_note(stack, call, clock):
    error = StatusError()
    backend = Backend(clock, error)

    with pytest.raises(StatusError) as caught:
        call(stack(Retry(**STEADY) + RateLimit(0.01)), backend)

    assert caught.value is error
    assert backend.calls == 1
    assert caught.value.__notes__ == [
        (
            "not repeated: RESOURCE_EXHAUSTED: rate limit s/rate_limit of 0.01 calls a second"
            " is used up"
        )
    ]


def test_a_change_during_a_call_holds_from_the_next_call_on(stack, call, clock):
    built = stack(Retry(3, **STEADY))
    backend = Backend(clock, StatusError())

    def function():
        built.parameters["retry/max_attempts"].set(1)
        return backend()

    with pytest.raises(StatusError):
        call(built, function)
    during = backend.calls
    with pytest.raises(StatusError):
        call(built, function)

    assert during == 3
    assert backend.calls == 4


def test_every_repetition_is_told_of(stack, call, clock, sink):
    backend = Backend(clock, StatusError(Code.UNAVAILABLE), StatusError(pushback=250), "answer")

    call(stack(Retry(**STEADY)), backend)

    told = [(event.name, event.attempt, event.delay, event.code) for event in sink.events]
    assert told == [
        ("RetryAttempt", 2, 1.0, "UNAVAILABLE"),
        ("RetryAttempt", 3, 0.25, "UNAVAILABLE"),
    ]


def test_a_good_answer_and_a_harmless_error_are_no_news(stack, call, clock, sink):
    call(stack(Retry()), lambda: "answer")
    with pytest.raises(StatusError):
        call(stack(Retry()), Backend(clock, StatusError(Code.NOT_FOUND)))

    assert stops(sink) == []


def test_nested_retries_multiply(stack, call, clock):
    backend = Backend(clock, StatusError())

    with pytest.raises(StatusError):
        call(stack(Retry(3, **STEADY, budget=FREE) + Retry(2, **STEADY, budget=FREE)), backend)

    assert backend.calls == 6
