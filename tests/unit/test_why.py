import random

import grpc
import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    Fault,
    RateLimit,
    Refused,
    Registry,
    Respond,
    Retry,
    Stack,
    Timeout,
)
from ninelives_grpc.call import Call, Method
from ninelives_grpc.errors import LocalError
from ninelives_grpc.testing import MemorySink, VirtualClock

DOWN = LocalError("down", code=grpc.StatusCode.UNAVAILABLE)


class World:
    """A stack on a clock of its own, and all that it tells."""

    def __init__(self, expression):
        self.clock, self.sink = VirtualClock(), MemorySink()
        self.stack = Stack("s", expression, registry=Registry(), clock=self.clock, sink=self.sink)

    def call(self, function):
        try:
            return self.stack.call(function)
        except Refused as refused:
            return refused

    def fail(self, takes=0.0):
        def failing():
            self.clock.advance(takes)
            raise DOWN

        with pytest.raises(LocalError):
            self.stack.call(failing)

    def take(self, takes=0.0):
        self.stack.call(lambda: self.clock.advance(takes))

    def told(self, name):
        return [(event.reason, event.why()) for event in self.sink.events if event.name == name]


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    monkeypatch.setattr(random, "random", lambda: 0.5)


def test_a_circuit_opens_with_the_calls_that_were_judged():
    world = World(CircuitBreaker(confidence=0.0, minimum_calls=8))
    for _ in range(2):
        world.take()
    for _ in range(6):
        world.fail()

    assert world.told("CircuitOpened") == [
        ("failure_rate", "6 of the last 8 calls failed, UNAVAILABLE: down")
    ]


def test_a_circuit_opens_after_failures_in_a_row():
    world = World(CircuitBreaker(consecutive_failures=3))
    for _ in range(3):
        world.fail()

    assert world.told("CircuitOpened") == [
        ("consecutive_failures", "3 calls failed in a row, UNAVAILABLE: down")
    ]


def test_a_circuit_opens_for_slowness():
    world = World(
        CircuitBreaker(slow_call_duration=1.0, confidence=0.0, minimum_calls=4, window_age=100.0)
    )
    world.take()
    for _ in range(3):
        world.take(2.0)

    assert world.told("CircuitOpened") == [("slow_call_rate", "3 of the last 4 calls were slow")]


def test_a_circuit_refuses_probes_and_closes_with_its_reasons():
    world = World(CircuitBreaker(consecutive_failures=1, half_open_permits=1, open_duration=0.5))
    world.fail()
    world.call(lambda: None)
    world.clock.advance(0.5)
    world.fail()
    world.clock.advance(1.0)
    world.take()
    world.stack.parameters["circuit_breaker/mode"].set("open")
    world.call(lambda: None)

    assert world.told("CircuitRefused") == [
        ("open", "open after UNAVAILABLE: down; try again in 0.5 s"),
        ("forced_open", "forced open"),
    ]
    assert (
        world.told("CircuitHalfOpened")
        == [("", "the time to stay open is over; probes find out")] * 2
    )
    assert world.told("CircuitOpened")[1] == (
        "probe_failures",
        "1 of the last 1 probe failed, UNAVAILABLE: down",
    )
    assert world.told("CircuitClosed") == [("", "1 probe went well")]
    assert [why for _, why in world.told("ParameterChanged")] == ["mode changed from auto to open"]


def test_a_bulkhead_refuses_with_what_is_under_way():
    world = World(Bulkhead(1))
    world.stack.call(lambda: world.call(lambda: None))

    assert world.told("BulkheadRefused") == [("full", "1 of 1 calls under way")]


def test_a_bulkhead_refuses_who_has_waited_and_who_finds_the_queue_full():
    world = World(Bulkhead(1, max_queue=1, max_wait=2.0))
    gate = world.stack.policy("bulkhead")
    gate.admit(Call(Method("m"), 0.0), 0.0, None)
    waiting = gate.admit(Call(Method("m"), 0.0), 0.0, None)
    gate.admit(Call(Method("m"), 0.0), 0.0, None)
    gate.claim(waiting, Call(Method("m"), 0.0), 2.0)

    assert world.told("BulkheadQueued") == [("", "1 call under way; 1 wait with it")]
    assert world.told("BulkheadRefused") == [
        ("queue_full", "1 of 1 calls under way, and 1 wait already"),
        ("waited", "1 of 1 calls under way, and no place for it within 2 s"),
    ]


def test_a_queue_says_who_waits_and_why_it_refuses():
    world = World(AdmissionQueue(1, max_queue=1, default_wait=2.0))
    world.take(1.0)
    gate = world.stack.policy("admission_queue")
    call, late = Call(Method("m"), 1.0), Call(Method("m"), 1.0)
    gate.admit(call, 1.0, None)
    waiting = gate.admit(late, 1.0, None)
    gate.admit(call, 1.0, None)
    gate.admit(call, 1.0, 1.5)
    critical = Call(Method("m"), 1.0, None, [("x-ninelives-priority", "critical")])
    gate.admit(critical, 1.0, None)
    gate.claim(waiting, late, 1.0)
    gate.shut(call, 1.0)

    assert world.told("AdmissionQueued") == [("", "1 call under way; 1 wait with it")] * 2
    now = "1 of 1 calls under way, and 1 wait"
    assert world.told("AdmissionRefused") == [
        ("queue_full", f"{now}: no more may"),
        ("deadline", f"{now}, each for 1 s of work"),
        ("displaced", f"{now}: it gave way"),
        ("shutdown", "the server shuts down"),
    ]


def test_a_queue_says_how_long_a_call_has_waited():
    world = World(AdmissionQueue(1, default_wait=2.0))
    world.take(1.0)
    gate = world.stack.policy("admission_queue")
    call = Call(Method("m"), 1.0)
    gate.admit(call, 1.0, None)
    waiting = gate.admit(call, 1.0, None)
    gate.claim(waiting, call, 3.0)

    why = "1 of 1 calls under way, and 0 wait, each for 1 s of work; it has waited 2 s"
    assert world.told("AdmissionRefused") == [("late", why)]


def test_a_rate_limit_refuses_with_what_is_allowed():
    world = World(RateLimit(10.0, burst=1.0))
    world.take()
    world.call(lambda: None)

    assert world.told("RateLimitRefused") == [
        ("rate", "10 calls a second and bursts of 1 are used up for another 0.1 s")
    ]


def test_a_rate_limit_refuses_what_is_too_heavy_for_it():
    world = World(RateLimit(10.0, burst=2.0, weight=lambda _: 3.0))
    world.call(lambda: None)

    assert world.told("RateLimitRefused") == [
        ("too_heavy", "it weighs more than a burst of 2 calls")
    ]


def test_a_rate_limit_tells_whom_it_lets_wait_and_whom_it_lets_pass():
    world = World(RateLimit(10.0, burst=1.0, max_wait=1.0))
    world.take()
    world.take()
    lenient = World(RateLimit(10.0, burst=1.0, enforced=0.4))
    lenient.take()
    lenient.take()

    assert world.told("RateLimitDelayed") == [("", "its turn comes in 0.1 s")]
    assert lenient.told("RateLimitExceeded") == [("", "0.1 s too early, and not enforced for it")]


def test_a_retry_tells_what_failed_and_when_it_tries_again_and_when_not():
    world = World(Retry(2, jitter="none", initial_backoff=0.1))
    world.fail()

    assert world.told("RetryAttempt") == [("", "attempt 1 ended with UNAVAILABLE; next in 0.1 s")]
    assert world.told("RetryExhausted") == [
        ("max_attempts", "attempt 2 ended with UNAVAILABLE, and there may be no more of them")
    ]
    assert [event.attempt for event in world.sink.events] == [2, 2, 2]
    assert world.told("RequestFailed") == [("", "UNAVAILABLE after 2 attempts and 0.1 s")]


def test_a_fallback_tells_what_failed_before():
    world = World(Retry(1) | Respond("else"))
    world.call(lambda: (_ for _ in ()).throw(DOWN))

    assert world.told("FallbackUsed") == [("", "the side before ended with UNAVAILABLE")]
    assert world.told("Responded") == [("", "answered here")]


def test_a_timeout_tells_its_limit():
    world = World(Timeout(1.0))
    with pytest.raises(grpc.RpcError):
        world.stack.call(lambda: world.clock.advance(2.0))

    assert world.told("TimeoutOccurred") == [("", "no answer within 1 s")]


def test_a_fault_tells_that_it_was_on_purpose():
    world = World(Fault(share=1.0, code="UNAVAILABLE"))
    with pytest.raises(grpc.RpcError):
        world.stack.call(lambda: None)

    assert world.told("FaultInjected") == [
        ("", "on purpose: delayed 0 s, then failed with UNAVAILABLE")
    ]
