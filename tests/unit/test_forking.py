"""What starts afresh in a forked child; `tests/rpc/test_fork.py` really forks."""

import gc
import weakref

from ninelives_grpc import AdmissionQueue, Bulkhead, CircuitBreaker, forking
from ninelives_grpc.call import Call, Method
from ninelives_grpc.outcome import Code, Kind, Outcome, succeeded

from .alone import alone

CALL = Call(Method("/a/B"), 0.0)


class Thing:
    def __init__(self):
        self.times = 0

    def start_afresh(self):
        self.times += 1


def test_what_is_alive_starts_afresh_and_is_not_kept_alive():
    kept, dropped = Thing(), Thing()
    forking.afresh_in_children(kept)
    forking.afresh_in_children(dropped)
    gone = weakref.ref(dropped)
    del dropped
    gc.collect()

    forking._start_afresh()

    assert kept.times == 1
    assert gone() is None


def test_a_bulkhead_has_every_place_free_again():
    gate = alone(Bulkhead(1, max_queue=1, max_wait=1.0))
    gate.admit(CALL, 0.0, None)
    gate.admit(CALL, 0.0, None)

    gate.start_afresh()

    assert gate.admit(CALL, 0.0, None).admitted
    assert gate.state(0.0)["queued"] == 0


def test_a_queue_has_every_place_free_again_and_no_workers_but_knows_what_calls_take():
    gate = alone(AdmissionQueue())
    gate.add_workers(1)
    gate.settle(gate.admit(CALL, 0.0, None), succeeded(2.0), 0.0)
    gate.admit(CALL, 0.0, None)
    gate.admit(CALL, 0.0, None)

    gate.start_afresh()

    assert gate.admit(CALL, 0.0, None).admitted
    state = gate.state(0.0)
    assert (state["queued"], state["workers"], state["service_time"]) == (0, 0, 2.0)


def test_a_half_open_circuit_forgets_the_probes_of_the_parent_and_stays_half_open():
    gate = alone(CircuitBreaker(consecutive_failures=1, open_duration=1.0, jitter=0.0))
    permit = gate.admit(CALL, 0.0, None)
    gate.settle(permit, Outcome(Kind.FAILURE, Code.UNAVAILABLE, 0.0), 0.0)
    assert gate.admit(CALL, 2.0, None).admitted
    assert not gate.admit(CALL, 2.0, None).admitted

    gate.start_afresh()

    assert gate.admit(CALL, 2.0, None).admitted
