"""How an open circuit finds out whether the backend is back."""

import pytest

from ninelives_grpc.outcome import cancelled
from ninelives_grpc.policies.gate import Permit
from tests.unit.alone import names
from tests.unit.breaker import CALL, Breaker, bad, feed, good


def test_it_refuses_until_its_time_is_over():
    breaker = Breaker()
    breaker.open(0.0)

    early = breaker.refuses(0.499)
    breaker.probe(0.5)

    assert early
    assert breaker.state(0.5) == "half_open"


def test_three_good_probes_close_it():
    breaker = Breaker()
    breaker.open(0.0)

    breaker.close(0.5)

    assert names(breaker.sink) == ["CircuitOpened", "CircuitHalfOpened", "CircuitClosed"]
    assert breaker.gate.state(0.5)["calls"] == 0


def test_one_probe_runs_at_a_time():
    breaker = Breaker()
    breaker.open(0.0)

    first = breaker.probe(0.5)
    meanwhile = breaker.refuses(0.5)
    breaker.succeed(first, 0.6)

    assert meanwhile
    assert isinstance(breaker.probe(0.6), Permit)


def test_as_many_probes_run_at_a_time_as_told_but_never_more_than_decide():
    breaker = Breaker(half_open_concurrency=10)
    breaker.open(0.0)

    probes = [breaker.probe(0.5) for _ in range(3)]

    assert breaker.refuses(0.5)
    assert breaker.gate.state(0.5)["probes"] == len(probes)


def test_a_refusal_while_half_open_says_when_to_come_back():
    breaker = Breaker()
    breaker.open(0.0)
    breaker.probe(0.5)

    refusal = breaker.gate.admit(CALL, 0.5, None)

    assert refusal.retry_after == 0.5
    assert "is half_open after" in refusal.details


def test_probes_are_judged_by_the_same_rate():
    breaker = Breaker()
    breaker.open(0.0)

    breaker.fail(breaker.probe(0.5), 0.5)
    after_one_of_three = breaker.state(0.5)
    breaker.fail(breaker.probe(0.6), 0.6)

    assert after_one_of_three == "half_open"
    assert breaker.state(0.6) == "open"


def test_a_few_bad_probes_among_many_do_not_open_it_again():
    breaker = Breaker(half_open_permits=5)
    breaker.open(0.0)

    breaker.fail(breaker.probe(0.5), 0.5)
    breaker.fail(breaker.probe(0.5), 0.5)
    for _ in range(3):
        breaker.succeed(breaker.probe(0.5), 0.5)

    assert breaker.state(0.5) == "closed"


def test_slow_probes_open_it_again():
    breaker = Breaker(slow_call_duration=1.0, half_open_permits=1)
    breaker.open(0.0)

    breaker.succeed(breaker.probe(0.5), 2.5, duration=2.0)

    assert breaker.state(2.5) == "open"


def test_a_cancelled_probe_neither_closes_nor_opens_and_its_slot_is_given_again():
    breaker = Breaker()
    breaker.open(0.0)

    for n in range(20):
        breaker.gate.settle(breaker.probe(0.5 + n), cancelled(), 0.5 + n)
    undecided = breaker.state(21.0)
    breaker.close(21.0)

    assert undecided == "half_open"


def test_a_probe_that_hangs_is_reclaimed_after_its_lease_and_counts_as_failed():
    breaker = Breaker(half_open_permits=1)
    breaker.open(0.0)
    breaker.probe(0.5)

    within_lease = breaker.refuses(30.4)
    after_lease = breaker.refuses(30.5)

    assert within_lease
    assert after_lease
    assert breaker.state(30.5) == "open"
    assert breaker.sink.events[-3].name == "ProbeReclaimed"
    assert breaker.sink.events[-2].name == "CircuitOpened"
    assert breaker.sink.events[-2].cause == "DEADLINE_EXCEEDED: a probe did not report back"


def test_a_refusal_after_a_lost_probe_names_that_as_the_cause():
    breaker = Breaker(half_open_permits=1)
    breaker.open(0.0)
    breaker.probe(0.5)

    refusal = breaker.gate.admit(CALL, 30.5, None)

    assert str(refusal.cause) == "DEADLINE_EXCEEDED: a probe did not report back"


def test_one_lost_probe_of_three_makes_room_for_the_next():
    breaker = Breaker()
    breaker.open(0.0)
    breaker.probe(0.5)

    breaker.succeed(breaker.probe(30.5), 30.5)
    breaker.succeed(breaker.probe(30.6), 30.6)

    assert breaker.state(30.6) == "closed"


def test_lost_probes_that_were_to_close_it_do():
    breaker = Breaker(failure_rate_threshold=1.0, half_open_permits=2, half_open_concurrency=2)
    breaker.gate.change({"failure_rate_threshold": 0.5})
    breaker.open(0.0)
    breaker.gate.change({"failure_rate_threshold": 1.0})
    breaker.succeed(breaker.probe(0.5), 0.5)
    breaker.probe(0.5)

    passes = not breaker.refuses(30.5)

    assert passes
    assert breaker.state(30.5) == "closed"


def test_several_lost_probes_stop_counting_once_it_is_open():
    breaker = Breaker(half_open_permits=4, half_open_concurrency=4)
    breaker.open(0.0)
    for _ in range(4):
        breaker.probe(0.5)

    breaker.refuses(30.5)

    assert breaker.state(30.5) == "open"
    assert names(breaker.sink).count("ProbeReclaimed") == 2


def test_an_outcome_that_comes_after_the_lease_is_dropped():
    breaker = Breaker()
    breaker.open(0.0)
    lost = breaker.probe(0.5)
    breaker.succeed(breaker.probe(30.5), 30.5)

    breaker.succeed(lost, 31.0)

    assert breaker.state(31.0) == "half_open"


def test_late_failure_does_not_prolong_an_open_circuit():
    breaker = Breaker()
    late = [breaker.probe(0.0) for _ in range(20)]
    breaker.open(0.0)

    for permit in late:
        breaker.fail(permit, 0.4)

    assert breaker.gate.state(0.4)["retry_after"] == pytest.approx(0.1)
    assert breaker.durations == [0.5]


def test_late_outcomes_do_not_decide_for_the_probes():
    breaker = Breaker()
    late = [breaker.probe(0.0) for _ in range(20)]
    breaker.open(0.0)
    breaker.probe(0.5)

    for permit in late[:10]:
        breaker.fail(permit, 0.6)
    for permit in late[10:]:
        breaker.succeed(permit, 0.6)

    assert breaker.state(0.6) == "half_open"


def test_fewer_permits_while_half_open_do_not_leave_it_stuck():
    breaker = Breaker(half_open_permits=5)
    breaker.open(0.0)
    for _ in range(3):
        breaker.succeed(breaker.probe(0.5), 0.5)

    breaker.gate.change({"half_open_permits": 2})

    assert not breaker.refuses(0.6)
    assert breaker.state(0.6) == "closed"


def test_a_reset_closes_it_and_the_next_opening_is_the_first_again():
    breaker = Breaker()
    breaker.open(0.0)
    breaker.probe(0.5)

    count = breaker.gate.reset(0.6)

    assert count == 1
    assert breaker.state(0.6) == "closed"
    assert names(breaker.sink)[-1] == "CircuitReset"
    breaker.open(0.7)
    assert breaker.durations == [0.5, 0.5]


def test_fewer_permits_do_not_close_a_circuit_most_of_whose_probes_failed():
    breaker = Breaker(half_open_permits=10, minimum_calls=2, confidence=0.0, open_duration=1.0)
    feed(breaker.gate, bad(2))
    cause = breaker.gate.admit(CALL, 0.5, None).cause
    feed(breaker.gate, [*bad(2), *good(1)], now=1.0)

    breaker.gate.change({"half_open_permits": 3})
    refusal = breaker.gate.admit(CALL, 1.0, None)

    assert breaker.state(1.0) == "open"
    assert refusal.cause is cause
