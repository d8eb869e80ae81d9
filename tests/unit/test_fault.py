import random

import pytest

from ninelives_grpc import (
    CircuitBreaker,
    ConfigError,
    Fault,
    Method,
    Refused,
    Respond,
    Retry,
    Stack,
    Timeout,
)
from ninelives_grpc.call import Call
from ninelives_grpc.errors import InjectedError
from ninelives_grpc.outcome import Code, Kind, refused
from ninelives_grpc.policies.fault import Cut
from ninelives_grpc.policies.gate import Permit, Refusal, Wait
from tests.unit.alone import alone, alone_with_events, names
from tests.unit.backend import Backend

CALL = Call(Method("shop.v1.Payments/Get"), 0.0)


def passes(gate, now=0.0, call=CALL):
    return isinstance(gate.admit(call, now, None), Permit)


def test_it_is_off_by_default():
    gate, sink = alone_with_events(Fault())

    assert all(passes(gate) for _ in range(100))
    assert gate.state(0.0) == {"on": False, "injected": 0}
    assert names(sink) == []


def test_it_hits_its_share_of_the_calls():
    random.seed(1)
    gate = alone(Fault(share=0.2))

    hit = sum(not passes(gate) for _ in range(10_000))

    assert 1_800 < hit < 2_200
    assert gate.state(0.0) == {"on": True, "injected": hit}


def test_what_it_makes_of_an_attempt_is_a_failure_as_of_a_backend_and_no_refusal():
    gate = alone(Fault(share=1.0, code="DATA_LOSS", details="gone"))

    outcome = refused(gate.admit(CALL, 0.0, None))

    assert (outcome.kind, outcome.code, outcome.refusal) == (Kind.FAILURE, Code.DATA_LOSS, None)
    assert isinstance(outcome.error, InjectedError)
    assert not isinstance(outcome.error, Refused)
    assert (outcome.error.details(), outcome.error.policy) == ("gone", "fault")


@pytest.mark.parametrize(
    ("code", "kind"),
    [("NOT_FOUND", Kind.SUCCESS), ("ABORTED", Kind.IGNORED), ("UNKNOWN", Kind.FAILURE)],
)
def test_a_code_teaches_what_it_teaches_from_a_backend(code, kind):
    gate = alone(Fault(share=1.0, code=code))

    assert refused(gate.admit(CALL, 0.0, None)).kind is kind


def test_overload_can_be_played_too():
    gate = alone(Fault(share=1.0, code="RESOURCE_EXHAUSTED"))

    outcome = refused(gate.admit(CALL, 0.0, None))

    assert outcome.overload
    assert outcome.kind is Kind.IGNORED


def test_a_delay_holds_a_call_up_and_then_fails_it():
    gate = alone(Fault(share=1.0, delay=2.0))
    wait = gate.admit(CALL, 10.0, None)

    assert isinstance(wait, Wait)
    assert wait.until == 12.0
    assert gate.claim(wait, CALL, 11.9) is wait
    verdict = gate.claim(wait, CALL, 12.0)

    assert isinstance(verdict, Refusal)
    outcome = refused(verdict)
    assert (outcome.code, outcome.duration) == (Code.UNAVAILABLE, 2.0)


def test_a_delay_beyond_the_deadline_ends_as_a_slow_backend_would():
    gate = alone(Fault(share=1.0, delay=60.0, code=None))
    wait = gate.admit(CALL, 10.0, 11.0)

    assert wait.until == 11.0
    assert refused(gate.claim(wait, CALL, 11.0)).code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("methods", "hit"),
    [
        (["*"], True),
        (["shop.v1.Payments/*"], True),
        (["/shop.v1.Payments/Get"], True),
        (["shop.v1.Payments/Put", "shop.v1.Orders/*"], False),
        ([], False),
    ],
)
def test_it_hits_the_methods_it_is_told_to(methods, hit):
    gate = alone(Fault(share=1.0, methods=methods))

    assert passes(gate) is not hit


@pytest.mark.parametrize("methods", ["shop.v1.Payments/Get", ["Get"]])
def test_methods_that_are_none_are_refused(methods):
    with pytest.raises(ConfigError, match="methods"):
        Fault(methods=methods)


def test_it_is_off_by_itself_after_its_duration():
    gate = alone(Fault(share=1.0, duration=30.0))

    assert not passes(gate, 29.9)
    assert passes(gate, 30.0)
    assert gate.state(30.0)["on"] is False


def test_a_change_begins_the_duration_anew(clock):
    gate = alone(Fault(duration=30.0), now=clock.now)
    clock.advance(100.0)

    gate.change({"share": 1.0})

    assert not passes(gate, clock.now() + 29.9)
    assert passes(gate, clock.now() + 30.0)


def test_every_call_that_is_hit_is_told_of():
    gate, sink = alone_with_events(Fault(share=1.0, delay=0.5, code=None))

    gate.admit(CALL, 3.0, None)

    (event,) = sink.events
    assert event.name == "FaultInjected"
    assert (event.method, event.at, event.details()) == (
        "shop.v1.Payments/Get",
        3.0,
        {"delay": 0.5, "code": ""},
    )


def test_a_retry_repeats_it_and_a_breaker_counts_it(call, registry, clock):
    backend = Backend(clock, "answer")
    expression = Retry(3, jitter="none") + CircuitBreaker(consecutive_failures=3) + Fault(share=1.0)
    stack = Stack("shop", expression, registry=registry, clock=clock)

    with pytest.raises(InjectedError, match="UNAVAILABLE: injected"):
        call(stack, backend)

    assert backend.calls == 0
    assert stack.policy("fault").injected == 3
    assert stack.policy("circuit_breaker").state(clock.now())["state"] == "open"


def test_a_call_goes_on_as_soon_as_it_is_switched_off(call, registry, clock):
    backend = Backend(clock, "answer")
    stack = Stack("shop", Fault(share=1.0), registry=registry, clock=clock)
    with pytest.raises(InjectedError):
        call(stack, backend)

    stack.parameters["fault/share"].set(0.0)

    assert call(stack, backend) == "answer"


def test_a_breaker_finds_a_delayed_call_slow(call, registry, clock):
    breaker = CircuitBreaker(slow_call_duration=1.0, minimum_calls=1, confidence=0.0)
    stack = Stack(
        "shop", breaker + Fault(share=1.0, delay=2.0, code=None), registry=registry, clock=clock
    )

    assert call(stack, Backend(clock, "answer")) == "answer"

    assert stack.policy("circuit_breaker").state(clock.now())["state"] == "open"


def test_a_time_limit_holds_for_a_delay(call, registry, clock):
    stack = Stack(
        "shop", Timeout(1.0) + Fault(share=1.0, delay=60.0), registry=registry, clock=clock
    )
    started = clock.now()

    with pytest.raises(InjectedError, match="DEADLINE_EXCEEDED"):
        call(stack, Backend(clock, "answer"))

    assert clock.now() == started + 1.0
    assert stack.policy("timeout").occurred == 1


def test_a_fallback_stands_in_for_it(call, registry, clock):
    stack = Stack("shop", Fault(share=1.0) | Respond("cached"), registry=registry, clock=clock)

    assert call(stack, Backend(clock, "answer")) == "cached"


def test_a_stream_is_let_through_to_be_cut():
    gate, sink = alone_with_events(Fault(share=1.0, after=2, code="DATA_LOSS"))

    permit = gate.admit(CALL, 0.0, None)

    assert isinstance(permit, Cut)
    assert permit.messages == 2
    assert (gate.state(0.0)["injected"], names(sink)) == (0, [])
    error = permit.strike(CALL, 1.0)
    assert (error.code(), error.policy) == (Code.DATA_LOSS, "fault")
    assert (gate.state(1.0)["injected"], names(sink)) == (1, ["FaultInjected"])


@pytest.mark.parametrize("other", [{"code": None}, {"delay": 1.0}])
def test_a_cut_needs_a_code_and_no_delay(other):
    with pytest.raises(ConfigError, match="after needs a code to fail with, and no delay"):
        Fault(after=2, **other)


def test_what_the_error_says_is_a_text():
    with pytest.raises(ConfigError, match="details must be a text, not None"):
        Fault(details=None)
