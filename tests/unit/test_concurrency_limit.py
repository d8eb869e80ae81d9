"""What all laws have in common: who is let in, who counts as an answer, and what is told."""

import threading

import pytest

from ninelives_grpc import (
    CircuitBreaker,
    ConcurrencyLimit,
    ConfigError,
    Method,
    Refused,
    Respond,
    Retry,
    Stack,
)
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, failed, refused, succeeded
from ninelives_grpc.policies.concurrency_limit import Algorithm
from ninelives_grpc.policies.gate import Permit, Refusal
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.backend import Backend, StatusError

CALL = Call(Method("shop.v1.Prices/Get"), 0.0)
EVERY = pytest.mark.parametrize("algorithm", Algorithm)
LATE = Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, 9.0)


def fill(gate, count, now=0.0):
    return [gate.admit(CALL, now, None) for _ in range(count)]


def answer(gate, outcome, *, begin=0.0, seconds=0.1, calls=80):
    """Have calls come and end, evenly in that time, and return the end of it."""
    for number in range(1, calls + 1):
        now = begin + seconds * number / calls
        gate.settle(gate.admit(CALL, now, None), outcome, now)
    return begin + seconds


@EVERY
def test_as_many_run_as_the_limit_says(algorithm):
    gate, sink = alone_with_events(ConcurrencyLimit(algorithm=algorithm, initial_limit=3))

    verdicts = fill(gate, 5)

    assert [isinstance(verdict, Permit) for verdict in verdicts] == [True] * 3 + [False] * 2
    assert names(sink) == ["ConcurrencyLimitRefused"] * 2
    assert sink.events[0].reason == "limit"
    assert sink.events[0].why() == "3 of 3 calls under way"
    assert gate.state(0.0) == {
        "in_flight": 3,
        "limit": 3,
        "algorithm": algorithm,
        "reason": "start",
        "base": 0.0,
        "latency": 0.0,
        "q": None,
        "acquired": 3,
        "refused": 2,
    }


@EVERY
@pytest.mark.parametrize(
    "outcome",
    [
        succeeded(0.1),
        cancelled(),
        LATE,
        failed(StatusError(), 0.1),
        failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.1),
        failed(StatusError(pushback=100), 0.1),
        refused(Refusal("other", "no")),
    ],
    ids=repr,
)
def test_a_place_is_free_again_however_the_call_ends(algorithm, outcome):
    gate = alone(ConcurrencyLimit(algorithm=algorithm, initial_limit=1, min_limit=1))
    (permit,) = fill(gate, 1)

    gate.settle(permit, outcome, 0.0)

    assert gate.in_flight == 0
    assert isinstance(gate.admit(CALL, 0.0, None), Permit)


def test_a_refusal_says_why_and_when_those_who_were_refused_may_have_been_served():
    gate = alone(ConcurrencyLimit())
    now = answer(gate, succeeded(0.02))
    now = answer(gate, succeeded(0.02), begin=now)
    fill(gate, gate.limit, now)

    first, second = fill(gate, 2, now)

    limit = gate.limit
    assert first.code is Code.RESOURCE_EXHAUSTED
    assert first.details == (
        f"concurrency limit stack/concurrency_limit is reached: {limit} calls run at once now"
    )
    assert first.retry_after == pytest.approx(0.02 / limit)
    assert second.retry_after == pytest.approx(2 * 0.02 / limit)


def test_nobody_is_sent_away_for_longer_than_a_second():
    gate = alone(ConcurrencyLimit(initial_limit=2))

    assert fill(gate, 1000)[-1].retry_after == 1.0


def test_a_refusal_before_any_answer_asks_to_wait_a_little_too():
    gate = alone(ConcurrencyLimit(initial_limit=2))

    assert fill(gate, 3)[-1].retry_after == pytest.approx(0.1 / 2)


def test_a_call_that_arrives_is_sure_to_be_refused_when_all_places_are_taken():
    gate = alone(ConcurrencyLimit(initial_limit=2))

    before, _ = gate.would_refuse(None, 0.0), fill(gate, 2)

    assert (before, gate.would_refuse(None, 0.0)) == (False, True)
    assert gate.refused == 0


@EVERY
@pytest.mark.parametrize(
    "outcome",
    [
        cancelled(5.0),
        failed(StatusError(), 0.0),
        failed(StatusError(Code.RESOURCE_EXHAUSTED), 0.0),
        failed(StatusError(pushback=100), 0.0),
        refused(Refusal("other", "no")),
        Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, 0.001),
    ],
    ids=repr,
)
def test_what_was_not_answered_is_no_answer(algorithm, outcome):
    gate = alone(ConcurrencyLimit(algorithm=algorithm, envoy_calls=20))
    now = 0.0
    for _ in range(3):
        now = answer(gate, succeeded(0.02), begin=now)
    before = gate.state(now)

    for number in range(400):
        now += 0.0001
        permit = gate.admit(CALL, now, None)
        gate.settle(permit, outcome, now)
        if number % 10 == 0:
            gate.settle(gate.admit(CALL, now, None), succeeded(0.02), now)

    assert gate.state(now)["latency"] == pytest.approx(0.02)
    assert gate.state(now)["base"] == pytest.approx(before["base"])


def test_a_local_answer_is_no_answer():
    outcome = succeeded(0.0)
    outcome.local = True
    gate = alone(ConcurrencyLimit())
    answer(gate, succeeded(0.02))
    before = gate.state(0.1)["latency"]

    answer(gate, outcome, begin=0.1)

    assert gate.state(0.2)["latency"] == before


def test_a_call_that_missed_its_deadline_has_taken_at_least_that_long():
    gate = alone(ConcurrencyLimit())
    now = answer(gate, succeeded(0.02))
    now = answer(gate, succeeded(0.02), begin=now)

    answer(gate, LATE, begin=now, seconds=0.15, calls=120)

    assert gate.state(now)["latency"] > 1.0
    assert gate.state(now)["reason"] == "overload"


@EVERY
@pytest.mark.parametrize("other", Algorithm)
def test_another_algorithm_goes_on_with_the_calls_and_the_limit(algorithm, other):
    gate = alone(ConcurrencyLimit(algorithm=algorithm))
    now = 0.0
    for _ in range(20):
        now = answer(gate, succeeded(0.02), begin=now)
    permits = fill(gate, 2, now)
    limit = gate.limit

    gate.change({"algorithm": other})

    assert gate.state(now)["algorithm"] == other
    assert (gate.limit, gate.in_flight) == (limit, 2)
    for permit in permits:
        gate.settle(permit, succeeded(99.0), now)
    assert gate.in_flight == 0


def test_a_new_algorithm_learns_nothing_from_calls_of_before():
    gate = alone(ConcurrencyLimit(initial_limit=100, max_limit=100))
    permits = fill(gate, 60)
    gate.change({"algorithm": "vegas"})
    now = answer(gate, succeeded(0.02), seconds=0.05)

    for permit in permits:
        gate.settle(permit, succeeded(99.0), now)
    answer(gate, succeeded(0.02), begin=now)

    assert gate.state(now)["latency"] == pytest.approx(0.02)


def test_to_set_the_same_algorithm_again_forgets_nothing():
    gate = alone(ConcurrencyLimit())
    now = answer(gate, succeeded(0.02))
    answer(gate, succeeded(0.02), begin=now)

    gate.change({"algorithm": "nl", "burst": 5.0})

    assert gate.state(now)["base"] == pytest.approx(0.02)


@EVERY
def test_new_bounds_hold_at_once(algorithm):
    gate = alone(ConcurrencyLimit(algorithm=algorithm))

    gate.change({"max_limit": 7})
    low = gate.limit
    gate.change({"min_limit": 300, "max_limit": 400})

    assert (low, gate.limit) == (7, 300)


def test_shrinking_lets_the_excess_drain():
    gate = alone(ConcurrencyLimit(initial_limit=4))
    permits = fill(gate, 4)

    gate.change({"max_limit": 2})
    for permit in permits[:2]:
        gate.settle(permit, cancelled(), 0.0)
    full = gate.admit(CALL, 0.0, None)
    gate.settle(permits[2], cancelled(), 0.0)

    assert isinstance(full, Refusal)
    assert isinstance(gate.admit(CALL, 0.0, None), Permit)


def test_bounds_that_exclude_each_other_are_refused():
    with pytest.raises(ConfigError, match="min_limit 9 must not be more than max_limit 8"):
        ConcurrencyLimit(min_limit=9, max_limit=8)


def test_the_initial_limit_keeps_to_the_bounds():
    assert alone(ConcurrencyLimit(initial_limit=50, max_limit=10)).limit == 10


def test_changes_of_the_limit_are_told_once_a_second_with_numbers():
    gate, sink = alone_with_events(ConcurrencyLimit())
    now = 0.0

    for _ in range(25):
        now = answer(gate, succeeded(0.02), begin=now)

    told = [event for event in sink.events if event.name == "LimitChanged"]
    assert 2 <= len(told) <= 3
    assert [event.old for event in told[1:]] == [event.new for event in told[:-1]]
    assert told[0].why() == (
        "20 to 26 with 0 under way, relaxed: calls took 0.02 s, and 0.02 s when nothing waits"
    )


def test_a_limit_that_stays_is_not_told():
    gate, sink = alone_with_events(ConcurrencyLimit(min_limit=20, max_limit=20))

    answer(gate, succeeded(0.02), seconds=5.0, calls=4000)

    assert names(sink) == []


def test_streams_are_followed_as_their_first_message_counts():
    assert alone(ConcurrencyLimit()).follows_messages


def test_a_child_that_was_forked_has_no_calls_and_the_same_limit():
    gate = alone(ConcurrencyLimit())
    now = 0.0
    for _ in range(5):
        now = answer(gate, succeeded(0.02), begin=now)
    fill(gate, 3, now)
    limit = gate.limit

    gate.start_afresh()

    assert (gate.in_flight, gate.limit) == (0, limit)


def test_a_stack_refuses_with_the_time_to_come_back(registry, clock, call):
    stack = Stack(
        "s", ConcurrencyLimit(initial_limit=1, min_limit=1), registry=registry, clock=clock
    )
    found = []

    def inner():
        with pytest.raises(Refused) as raised:
            stack.call(lambda: None)
        found.append(raised.value)

    call(stack, inner)

    assert found[0].code() is Code.RESOURCE_EXHAUSTED
    assert found[0].retry_after > 0
    assert found[0].policy == "concurrency_limit"
    assert stack.policy("concurrency_limit").in_flight == 0


def test_attempts_and_what_is_refused_further_in_give_their_places_back(registry, clock, call):
    expression = Retry(3, jitter="none") + ConcurrencyLimit() + CircuitBreaker(mode="open")
    stack = Stack("s", expression | Respond("else"), registry=registry, clock=clock)

    assert call(stack, Backend(clock, StatusError())) == "else"
    assert stack.policy("concurrency_limit").in_flight == 0


def test_threads_never_exceed_the_limit_and_lose_no_place(registry):
    sink = MemorySink(routine=True)
    policy = ConcurrencyLimit(initial_limit=3, min_limit=3, max_limit=3, window=0.001)
    stack = Stack("s", policy, registry=registry, sink=sink)
    running, most, lock = [0], [0], threading.Lock()

    def function():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    def worker():
        for _ in range(50):
            try:
                stack.call(function)
            except Refused:
                continue

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    state = stack.policy("concurrency_limit").state(0.0)
    assert most[0] <= 3
    assert state["in_flight"] == 0
    assert state["acquired"] + state["refused"] == 400
