import pytest

from ninelives_grpc import CircuitBreaker, ConfigError, Kind
from ninelives_grpc.outcome import Code, cancelled, failed, refused
from ninelives_grpc.policies.gate import Refusal
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.breaker import CALL, bad, feed, good, state


def test_eight_failures_of_eight_open_it():
    gate = alone(CircuitBreaker())

    passed = feed(gate, bad(100))

    assert passed == 8
    assert state(gate) == "open"


def test_seven_failures_of_seven_are_too_few_to_tell():
    gate = alone(CircuitBreaker())

    feed(gate, bad(7))

    assert state(gate) == "closed"


def test_thirty_percent_failures_never_open_it():
    gate = alone(CircuitBreaker())
    pattern = bad(3) + good(7)

    for second in range(200):
        feed(gate, pattern, now=second / 10)

    assert state(gate, 20.0) == "closed"


def test_a_rate_must_be_above_the_threshold_with_confidence():
    gate = alone(CircuitBreaker())

    feed(gate, good(4) + bad(9))
    nine_of_thirteen = state(gate)
    feed(gate, bad(8))
    seventeen_of_twenty_one = state(gate)

    assert nine_of_thirteen == "closed"
    assert seventeen_of_twenty_one == "open"


def test_without_confidence_the_plain_ratio_counts():
    gate = alone(CircuitBreaker(confidence=0.0))

    feed(gate, good(4) + bad(4))
    at_half = state(gate)
    feed(gate, bad(1))

    assert at_half == "closed"
    assert state(gate) == "open"


@pytest.mark.parametrize(
    ("settings", "failures"),
    [
        ({"minimum_calls": 20}, 20),
        ({"failure_rate_threshold": 0.3}, 8),
        ({"failure_rate_threshold": 0.8}, 16),
        ({"minimum_calls": 1, "confidence": 0.0}, 1),
        ({"consecutive_failures": 3}, 3),
    ],
    ids=str,
)
def test_every_number_counts(settings, failures):
    assert feed(alone(CircuitBreaker(**settings)), bad(100)) == failures


def test_a_success_ends_a_run_of_failures():
    gate = alone(CircuitBreaker(consecutive_failures=3))

    feed(gate, (bad(2) + good(2)) * 5)

    assert state(gate) == "closed"


def test_the_window_holds_the_last_calls_only():
    gate = alone(CircuitBreaker(window_size=10, minimum_calls=10, confidence=0.0))

    feed(gate, good(100) + bad(5))
    before = state(gate)
    feed(gate, bad(1))

    assert (before, state(gate)) == ("closed", "open")


def test_calls_leave_the_window_when_they_are_old():
    gate = alone(CircuitBreaker())

    feed(gate, bad(7), now=0.0)
    feed(gate, bad(7), now=10.001)

    assert state(gate, 10.001) == "closed"
    assert gate.state(10.001)["calls"] == 7


def test_a_time_window_holds_any_number_of_calls():
    by_time = alone(CircuitBreaker(window="time", window_size=10))
    by_count = alone(CircuitBreaker(window="count", window_size=10))

    for gate in (by_time, by_count):
        feed(gate, good(1000))

    assert by_time.state(0.0)["calls"] == 1000
    assert by_count.state(0.0)["calls"] == 10


def test_a_time_window_forgets_too():
    gate = alone(CircuitBreaker(window="time"))

    feed(gate, bad(7), now=0.0)
    feed(gate, bad(7), now=10.5)
    forgotten = state(gate, 10.5)
    feed(gate, bad(1), now=10.5)

    assert (forgotten, state(gate, 10.5)) == ("closed", "open")


def test_slow_calls_open_it_when_told_so():
    gate = alone(CircuitBreaker(slow_call_duration=1.0))
    plain = alone(CircuitBreaker())

    passed = feed(gate, good(100, duration=1.0))
    feed(plain, good(100, duration=1.0))

    assert passed == 8
    assert state(gate) == "open"
    assert state(plain) == "closed"


def test_calls_that_are_quick_enough_are_not_slow():
    gate = alone(CircuitBreaker(slow_call_duration=1.0))

    feed(gate, good(100, duration=0.999))

    assert state(gate) == "closed"
    assert gate.state(0.0)["slow_calls"] == 0


def test_the_rate_of_slow_calls_has_a_threshold_of_its_own():
    gate = alone(CircuitBreaker(slow_call_duration=1.0, slow_call_rate_threshold=0.9))

    feed(gate, good(8, duration=2.0))

    assert state(gate) == "closed"


@pytest.mark.parametrize(
    "outcomes",
    [
        bad(100, code=Code.RESOURCE_EXHAUSTED),
        bad(100, pushback=100),
        bad(100, pushback=-1),
        bad(100, code=Code.ABORTED),
        [cancelled() for _ in range(100)],
        [refused(Refusal("bulkhead", "full")) for _ in range(100)],
        [refused(Refusal("inner", "open", code=Code.UNAVAILABLE)) for _ in range(100)],
    ],
    ids=["exhausted", "pushback", "stop", "aborted", "cancelled", "refused", "refused further in"],
)
def test_what_is_no_verdict_on_the_backend_teaches_nothing(outcomes):
    gate = alone(CircuitBreaker())

    assert feed(gate, outcomes) == 100

    assert gate.state(0.0)["calls"] == 0


def test_answers_such_as_not_found_count_as_successes():
    gate = alone(CircuitBreaker())

    feed(gate, bad(100, code=Code.NOT_FOUND))

    assert (gate.state(0.0)["calls"], gate.state(0.0)["failures"]) == (100, 0)


def test_the_application_may_see_outcomes_its_own_way():
    def strict(outcome):
        return Kind.FAILURE if outcome.code is Code.NOT_FOUND else None

    gate = alone(CircuitBreaker(classify=strict))

    feed(gate, good(3) + bad(3, code=Code.UNAVAILABLE) + bad(30, code=Code.NOT_FOUND))

    assert state(gate) == "open"


def test_a_view_of_outcomes_that_fails_is_logged_and_changes_nothing(caplog):
    def broken(_):
        raise ZeroDivisionError

    gate = alone(CircuitBreaker(classify=broken))

    passed = feed(gate, bad(100))

    assert passed == 8
    assert "the classify function of stack/circuit_breaker failed" in caplog.text


def test_our_own_refusals_are_not_put_to_the_application():
    gate = alone(CircuitBreaker(classify=lambda _: Kind.FAILURE))

    feed(gate, [refused(Refusal("bulkhead", "full")) for _ in range(100)])

    assert state(gate) == "closed"


def test_a_refusal_says_for_how_long_and_why():
    gate, sink = alone_with_events(CircuitBreaker(jitter=0.0))
    feed(gate, bad(8, details="disk full"), now=5.0)

    refusal = gate.admit(CALL, 5.2, None)

    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.UNAVAILABLE
    assert refusal.retry_after == pytest.approx(0.3)
    assert str(refusal.cause) == "UNAVAILABLE: disk full"
    assert refusal.details == ("circuit stack/circuit_breaker is open after UNAVAILABLE: disk full")
    assert refusal.cause.__traceback__ is None
    assert names(sink) == ["CircuitOpened", "CircuitRefused"]
    assert sink.events[1].retry_after == pytest.approx(0.3)
    assert gate.state(5.2)["refused"] == 1


def test_opening_is_told_with_duration_rate_and_cause():
    gate, sink = alone_with_events(CircuitBreaker(jitter=0.0))

    feed(gate, good(1) + bad(9, details="disk full"))

    opened = sink.events[0]
    assert (opened.name, opened.key, opened.duration) == ("CircuitOpened", "", 0.5)
    assert opened.failure_rate == pytest.approx(0.9, abs=0.03)
    assert opened.cause == "UNAVAILABLE: disk full"


def test_an_error_without_text_is_told_by_its_code():
    gate = alone(CircuitBreaker())

    feed(gate, [failed(ValueError(), 0.0) for _ in range(8)])

    assert str(gate.admit(CALL, 0.0, None).cause) == "UNKNOWN: UNKNOWN"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"open_duration": 6.0}, "max_open_duration 5 must not be less than open_duration 6"),
        ({"window": "calls"}, "window must be one of count, time, not 'calls'"),
        ({"classify": "INTERNAL"}, "classify must be a function of an outcome"),
        (
            {"scope": "tenant"},
            "scope must be stack, method, target, peer, metadata:NAME, or a function",
        ),
        ({"mode": "half"}, "one of auto, open, closed, disabled, metrics_only, not 'half'"),
        ({"failure_rate_threshold": 50}, "a number from 0 to 1 ratio, not 50"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings, says):
    with pytest.raises(ConfigError) as caught:
        CircuitBreaker(**settings)

    assert says in str(caught.value)
    assert str(caught.value).startswith("CircuitBreaker")
