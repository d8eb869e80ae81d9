import threading

import pytest

from ninelives_grpc import Bulkhead, Method, Refused, Stack, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import cancelled, succeeded
from ninelives_grpc.policies.gate import Permit, Refusal
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import alone, alone_with_events, names

CALL = Call(Method("shop.v1.Payments/Get"), 0.0)


def ranked(priority, level=50):
    metadata = [("x-ninelives-priority", priority), ("x-ninelives-level", str(level))]
    return Call(Method("m"), 0.0, None, metadata)


def full(**settings):
    """A bulkhead of one place, which is taken."""
    gate = alone(Bulkhead(1, **settings))
    return gate, gate.admit(CALL, 0.0, None)


def leave(gate, permit, now=0.0, duration=0.0):
    gate.settle(permit, succeeded(duration), now)


def test_only_so_many_run_at_once():
    gate, sink = alone_with_events(Bulkhead(3))

    verdicts = [gate.admit(CALL, 0.0, None) for _ in range(5)]

    assert [isinstance(verdict, Permit) for verdict in verdicts] == [True] * 3 + [False] * 2
    assert names(sink) == ["BulkheadAcquired"] * 3 + ["BulkheadRefused"] * 2
    assert [event.in_flight for event in sink.events] == [1, 2, 3, 3, 3]
    assert gate.state(0.0) == {
        "in_flight": 3,
        "limit": 3,
        "queued": 0,
        "acquired": 3,
        "refused": 2,
    }


def test_a_call_that_ends_makes_room_for_another():
    gate, permit = full()

    leave(gate, permit)

    assert isinstance(gate.admit(CALL, 0.0, None), Permit)


@pytest.mark.parametrize("outcome", [succeeded(0.0), cancelled()], ids=repr)
def test_a_place_is_free_again_however_the_call_ends(outcome):
    gate, permit = full()

    gate.settle(permit, outcome, 0.0)

    assert gate.in_flight == 0


def test_a_refusal_says_why_and_when_a_place_may_be_free():
    gate, permit = full()
    leave(gate, permit, duration=2.0)
    gate.admit(CALL, 0.0, None)

    refusal = gate.admit(CALL, 0.0, None)

    assert isinstance(refusal, Refusal)
    assert refusal.code.name == "RESOURCE_EXHAUSTED"
    assert refusal.details == "bulkhead stack/bulkhead is full: 1 calls run at once"
    assert refusal.retry_after == 2.0


def test_the_wait_to_expect_follows_how_long_calls_take():
    gate, permit = full()
    for _ in range(200):
        leave(gate, permit, duration=2.0)
        permit = gate.admit(CALL, 0.0, None)
    for _ in range(200):
        leave(gate, permit, duration=0.5)
        permit = gate.admit(CALL, 0.0, None)

    assert gate.admit(CALL, 0.0, None).retry_after == pytest.approx(0.5, rel=0.01)


def test_the_queue_is_bounded():
    gate, _ = full(max_queue=2, max_wait=1.0)

    verdicts = [gate.admit(CALL, 0.0, None) for _ in range(3)]

    assert [verdict.admitted for verdict in verdicts] == [False] * 3
    assert isinstance(verdicts[2], Refusal)
    assert gate.state(0.0)["queued"] == 2


def test_waiting_is_told_of():
    gate, sink = alone_with_events(Bulkhead(1, max_queue=1, max_wait=1.0))
    permit = gate.admit(CALL, 0.0, None)
    place = gate.admit(CALL, 0.0, None)
    leave(gate, permit)
    gate.claim(place, CALL, 0.5)

    queued = sink.events[1]
    assert names(sink) == ["BulkheadAcquired", "BulkheadQueued", "BulkheadAcquired"]
    assert (queued.in_flight, queued.queued) == (1, 1)


@pytest.mark.parametrize(
    ("order", "calls", "served"),
    [
        ("fifo", [CALL, CALL, CALL], [0, 1, 2]),
        ("lifo", [CALL, CALL, CALL], [2, 1, 0]),
        ("priority", [ranked("low"), ranked("critical"), ranked("normal")], [1, 2, 0]),
        ("priority", [ranked("high", 90), ranked("high", 10), ranked("high", 90)], [1, 0, 2]),
        ("priority", [ranked("normal"), ranked("low"), ranked("nonsense")], [0, 2, 1]),
    ],
)
def test_who_waits_is_served_in_the_order_told(order, calls, served):
    gate, permit = full(max_queue=9, max_wait=1.0, order=order)
    places = [gate.admit(call, 0.0, None) for call in calls]

    order_served = []
    for _ in calls:
        leave(gate, permit)
        (place,) = [place for place in places if place.ready and place not in order_served]
        order_served.append(place)

    assert [places.index(place) for place in order_served] == served


def test_a_waiter_is_woken_when_its_place_is_free():
    gate, permit = full(max_queue=1, max_wait=1.0)
    place = gate.admit(CALL, 0.0, None)
    woken = []
    place.wake = lambda: woken.append(gate._lock.locked())

    leave(gate, permit)

    assert woken == [False]
    assert isinstance(gate.claim(place, CALL, 0.9), Permit)
    assert gate.in_flight == 1


def test_a_waiter_waits_until_its_place_is_free_or_its_time_is_over():
    gate, _ = full(max_queue=1, max_wait=1.0)
    place = gate.admit(CALL, 0.0, None)

    early = gate.claim(place, CALL, 0.999)
    late = gate.claim(place, CALL, 1.0)

    assert early is place
    assert isinstance(late, Refusal)
    assert late.details.endswith("1 calls run at once, and none ended in 1 s")
    assert gate.state(1.0)["queued"] == 0
    assert gate.state(1.0)["refused"] == 1


@pytest.mark.parametrize(("deadline", "until"), [(None, 10.0), (3.0, 3.0), (30.0, 10.0)], ids=str)
def test_a_waiter_leaves_at_its_deadline(deadline, until):
    gate, _ = full(max_queue=1, max_wait=10.0)

    assert gate.admit(CALL, 0.0, deadline).until == until


def test_whose_deadline_has_come_does_not_wait():
    gate, _ = full(max_queue=1, max_wait=10.0)

    assert isinstance(gate.admit(CALL, 5.0, 5.0), Refusal)


def test_nobody_overtakes_those_who_wait():
    gate, permit = full(max_queue=5, max_wait=1.0)
    place = gate.admit(CALL, 0.0, None)
    gate.change({"order": "lifo"})

    leave(gate, permit)
    newcomer = gate.admit(CALL, 0.0, None)

    assert place.ready
    assert not newcomer.admitted


def test_a_waiter_that_is_gone_is_not_served():
    gate, permit = full(max_queue=2, max_wait=1.0)
    gone, patient = (gate.admit(CALL, 0.0, None) for _ in range(2))

    gate.abandon(gone, 0.1)
    leave(gate, permit)

    assert (gone.ready, patient.ready) == (False, True)


def test_a_granted_place_that_nobody_takes_is_passed_on():
    gate, permit = full(max_queue=2, max_wait=1.0)
    gone, patient = (gate.admit(CALL, 0.0, None) for _ in range(2))
    leave(gate, permit)

    gate.abandon(gone, 0.1)

    assert patient.ready
    assert gate.in_flight == 1


def test_growing_lets_waiters_in_at_once():
    gate, _ = full(max_queue=5, max_wait=1.0)
    places = [gate.admit(CALL, 0.0, None) for _ in range(3)]
    woken = []
    for place in places:
        place.wake = lambda place=place: woken.append(place)

    gate.change({"max_concurrent": 3})

    assert woken == places[:2]
    assert gate.in_flight == 3


def test_shrinking_lets_the_excess_drain():
    gate = alone(Bulkhead(4))
    permits = [gate.admit(CALL, 0.0, None) for _ in range(4)]

    gate.change({"max_concurrent": 2})
    leave(gate, permits[0])
    leave(gate, permits[1])
    at_two = gate.admit(CALL, 0.0, None)
    leave(gate, permits[2])

    assert isinstance(at_two, Refusal)
    assert isinstance(gate.admit(CALL, 0.0, None), Permit)


def test_shrinking_serves_waiters_only_when_there_is_room_again():
    gate = alone(Bulkhead(2, max_queue=5, max_wait=1.0))
    permits = [gate.admit(CALL, 0.0, None) for _ in range(2)]
    place = gate.admit(CALL, 0.0, None)

    gate.change({"max_concurrent": 1})
    leave(gate, permits[0])
    too_early = place.ready
    leave(gate, permits[1])

    assert (too_early, place.ready) == (False, True)


def test_a_place_that_becomes_free_while_somebody_joins_the_queue_is_taken():
    gate, permit = full()

    class Deadline(float):
        def __lt__(self, other):
            leave(gate, permit)
            return False

    verdict = gate.admit(CALL, 0.0, Deadline(1.0))

    assert isinstance(verdict, Permit)
    assert gate.state(0.0) | {"in_flight": 1, "acquired": 2, "refused": 0} == gate.state(0.0)


def test_a_timeout_outside_bounds_the_wait_in_the_queue(registry, clock, call):
    stack = Stack(
        "s",
        Timeout(2.0) + Bulkhead(1, max_queue=1, max_wait=30.0),
        registry=registry,
        clock=clock,
    )
    gate = stack.policy("bulkhead")
    gate.admit(CALL, 0.0, None)

    with pytest.raises(Refused):
        call(stack, lambda: None)

    assert clock.now() == 1002.0
    assert gate.state(0.0)["queued"] == 0


def test_threads_never_exceed_the_limit_and_lose_no_place(registry):
    sink = MemorySink(routine=True)
    stack = Stack("s", Bulkhead(3, max_queue=100, max_wait=60.0), registry=registry, sink=sink)
    running, most, lock = [0], [0], threading.Lock()

    def function():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    def worker():
        for _ in range(50):
            stack.call(function)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    state = stack.policy("bulkhead").state(0.0)
    assert most[0] <= 3
    assert state["in_flight"] == state["queued"] == 0
    assert state["acquired"] == 400
