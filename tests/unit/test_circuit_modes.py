"""Who decides in place of the circuit, and what the circuit learns meanwhile."""

import pytest

from ninelives_grpc import CircuitBreaker
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.policies.gate import Refusal
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.backend import StatusError
from tests.unit.breaker import CALL, bad, feed, good, state


def breaker(**settings):
    return alone(CircuitBreaker(**{"jitter": 0.0, **settings}))


def test_forced_open_nobody_passes_whatever_the_circuit_says():
    gate = breaker(mode="open")

    refusal = gate.admit(CALL, 0.0, None)

    assert isinstance(refusal, Refusal)
    assert (refusal.retry_after, refusal.cause) == (None, None)
    assert refusal.details == "circuit stack/circuit_breaker is forced open"
    assert gate.state(0.0) | {"mode": "open", "state": "closed", "refused": 1} == gate.state(0.0)


def test_a_forced_opening_after_a_real_one_does_not_name_its_cause():
    gate = breaker()
    feed(gate, bad(8))

    gate.change({"mode": "open"})

    assert gate.admit(CALL, 0.0, None).details == "circuit stack/circuit_breaker is forced open"


def test_forced_closed_all_pass_and_are_counted_but_do_not_open_it():
    gate = breaker(mode="closed", slow_call_duration=1.0)

    passed = feed(gate, bad(50) + good(25) + good(25, duration=2.0))

    assert passed == 100
    found = gate.state(0.0)
    assert (found["state"], found["calls"], found["failures"]) == ("closed", 100, 50)
    assert found["slow_calls"] == 25


def test_forced_closed_ignores_what_teaches_nothing():
    gate = breaker(mode="closed")

    feed(gate, bad(10, pushback=5))

    assert gate.state(0.0)["calls"] == 0


def test_disabled_all_pass_and_nothing_is_counted():
    gate = breaker(mode="disabled")

    passed = feed(gate, bad(100))

    assert passed == 100
    assert (state(gate), gate.state(0.0)["calls"]) == ("closed", 0)


def test_metrics_only_lets_all_pass_while_the_circuit_opens_and_closes_for_all_to_see():
    gate, sink = alone_with_events(CircuitBreaker(jitter=0.0, mode="metrics_only"))

    opened = feed(gate, bad(100), now=0.0), state(gate)
    feed(gate, good(100), now=0.4)
    still_open = state(gate)
    closed = feed(gate, good(3), now=0.5), state(gate)

    assert opened == (100, "open")
    assert still_open == "open"
    assert closed == (3, "closed")
    assert names(sink) == ["CircuitOpened", "CircuitHalfOpened", "CircuitClosed"]


def test_a_circuit_opened_in_metrics_only_refuses_once_it_is_in_charge():
    gate = breaker(mode="metrics_only")
    feed(gate, bad(100))

    gate.change({"mode": "auto"})

    assert isinstance(gate.admit(CALL, 0.1, None), Refusal)


def test_what_an_override_let_through_does_not_prolong_an_open_circuit():
    gate = breaker()
    feed(gate, bad(8), now=0.0)
    gate.change({"mode": "closed"})
    let_through = [gate.admit(CALL, 0.1, None) for _ in range(20)]

    gate.change({"mode": "auto"})
    for permit in let_through:
        gate.settle(permit, failed(StatusError(), 0.0), 0.4)

    assert gate.state(0.4)["retry_after"] == pytest.approx(0.1)


def test_a_probe_that_reports_back_while_forced_closed_is_not_taken_for_lost():
    gate = breaker(half_open_permits=1)
    feed(gate, bad(8), now=0.0)
    probe = gate.admit(CALL, 0.5, None)
    gate.change({"mode": "closed"})
    gate.settle(probe, succeeded(0.0), 0.6)

    gate.change({"mode": "auto"})
    permit = gate.admit(CALL, 40.0, None)
    gate.settle(permit, succeeded(0.0), 40.0)

    assert gate.state(40.0)["state"] == "closed"


def test_a_breaker_never_lets_a_call_wait():
    gate = breaker(mode="open")

    assert isinstance(gate.claim(None, CALL, 0.0), Refusal)
    assert gate.abandon(None, 0.0) is None


def test_new_sizes_hold_for_a_running_window():
    by_count = breaker(confidence=0.0, minimum_calls=10)
    by_time = breaker(window="time")
    feed(by_count, good(50))
    feed(by_time, good(5), now=0.0)

    by_count.change({"window_size": 10})
    by_time.change({"window_age": 2.0})

    assert by_count.state(0.0)["calls"] == 10
    assert by_time.state(2.0)["calls"] == 0


def test_forced_closed_a_late_outcome_is_dropped_as_ever():
    gate = breaker(mode="closed")
    permit = gate.admit(CALL, 0.0, None)
    gate.reset(0.1)

    gate.settle(permit, failed(StatusError(), 0.0), 0.2)

    assert gate.state(0.2)["calls"] == 0


def test_a_success_while_forced_closed_ends_the_failures_in_a_row():
    gate = breaker(consecutive_failures=3, failure_rate_threshold=1.0, slow_call_duration=1.0)
    feed(gate, bad(2))
    gate.change({"mode": "closed"})
    feed(gate, good())
    gate.change({"mode": "auto"})

    feed(gate, bad())

    assert state(gate) == "closed"
