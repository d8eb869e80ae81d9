import random

import pytest

from ninelives_grpc import ConfigError, Method, RateLimit, Refused, Stack, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.policies.gate import Permit, Refusal, Wait
from tests.unit.alone import alone, alone_with_events, names

CALL = Call(Method("shop.v1.Payments/Get"), 0.0)


def passes(gate, now, call=CALL):
    return isinstance(gate.admit(call, now, None), Permit)


def test_calls_pass_at_the_rate_and_no_sooner():
    gate = alone(RateLimit(4.0))

    admitted = [now for now in range(0, 1000, 50) if passes(gate, now / 1000)]

    assert admitted == [0, 250, 500, 750]


def test_a_burst_passes_at_once_after_a_quiet_time():
    gate = alone(RateLimit(1.0, 5.0))

    first = sum(passes(gate, 0.0) for _ in range(20))
    after_two_seconds = sum(passes(gate, 2.0) for _ in range(20))
    after_a_long_time = sum(passes(gate, 1000.0) for _ in range(20))

    assert (first, after_two_seconds, after_a_long_time) == (5, 2, 5)


def test_a_refusal_gives_the_exact_wait_and_who_waits_it_passes():
    gate = alone(RateLimit(4.0, 2.0))
    passes(gate, 10.0)
    passes(gate, 10.0)

    refusal = gate.admit(CALL, 10.1, None)

    assert isinstance(refusal, Refusal)
    assert refusal.code.name == "RESOURCE_EXHAUSTED"
    assert refusal.retry_after == pytest.approx(0.15)
    assert refusal.details == "rate limit stack/rate_limit of 4 calls a second is used up"
    assert not passes(gate, 10.1 + refusal.retry_after - 0.001)
    assert passes(gate, 10.1 + refusal.retry_after)


def test_a_refused_call_does_not_count():
    gate = alone(RateLimit(1.0))
    passes(gate, 0.0)

    for n in range(100):
        gate.admit(CALL, n / 1000, None)

    assert passes(gate, 1.0)
    assert gate.state(1.0)["refused"] == 100


def test_a_call_may_weigh_more_than_one():
    gate = alone(RateLimit(1.0, 10.0, weight=lambda call: float(call.request)))
    heavy, light = (Call(Method("m"), 0.0, None, None, weight) for weight in (8, 2))

    first, second, third = (
        passes(gate, 0.0, heavy),
        passes(gate, 0.0, light),
        gate.admit(heavy, 0.0, None),
    )

    assert (first, second) == (True, True)
    assert third.retry_after == 8.0


def test_no_wait_helps_a_call_that_is_heavier_than_the_whole_burst():
    gate = alone(RateLimit(1.0, 5.0, weight=lambda _: 6.0))

    refusal = gate.admit(CALL, 0.0, None)

    assert refusal.retry_after is None


@pytest.mark.parametrize("now", [0.0, 0.5965055727854879, 123_456.789, 1e8 + 0.1])
@pytest.mark.parametrize("rate", [0.3, 1.0, 7.0, 150.0])
def test_a_fresh_limit_lets_its_whole_burst_through_at_any_time(now, rate):
    gate = alone(RateLimit(rate, 3.0))

    assert [passes(gate, now) for _ in range(4)] == [True, True, True, False]


def test_calls_that_may_wait_get_turns_one_after_the_other():
    gate, sink = alone_with_events(RateLimit(2.0, max_wait=1.0))
    passes(gate, 0.0)

    verdicts = [gate.admit(CALL, 0.0, None) for _ in range(3)]

    assert [verdict.until for verdict in verdicts[:2]] == [0.5, 1.0]
    assert isinstance(verdicts[2], Refusal)
    assert [event.delay for event in sink.events[:2]] == [0.5, 1.0]
    assert names(sink) == ["RateLimitDelayed", "RateLimitDelayed", "RateLimitRefused"]
    assert sink.events[2].retry_after == 1.5


def test_a_turn_is_claimed_when_it_has_come_and_not_before():
    gate = alone(RateLimit(2.0, max_wait=1.0))
    passes(gate, 0.0)
    turn = gate.admit(CALL, 0.0, None)

    early = gate.claim(turn, CALL, 0.499)
    in_time = gate.claim(turn, CALL, 0.5)

    assert early is turn
    assert isinstance(in_time, Permit)


def test_a_turn_that_is_given_up_can_be_had_by_another():
    gate = alone(RateLimit(2.0, max_wait=0.5))
    passes(gate, 0.0)
    turn = gate.admit(CALL, 0.0, None)
    full = gate.admit(CALL, 0.0, None)

    gate.abandon(turn, 0.1)

    assert isinstance(full, Refusal)
    assert gate.admit(CALL, 0.1, None).until == 0.5


def test_only_a_turn_is_given_back():
    gate = alone(RateLimit(1.0))
    passes(gate, 0.0)

    gate.abandon(Wait(0.0, 1.0), 0.0)

    assert not passes(gate, 0.5)


@pytest.mark.parametrize(("deadline", "waits"), [(None, True), (0.6, True), (0.5, False)])
def test_a_turn_after_the_deadline_is_refused_at_once(deadline, waits):
    gate = alone(RateLimit(2.0, max_wait=10.0))
    passes(gate, 0.0)

    verdict = gate.admit(CALL, 0.0, deadline)

    assert isinstance(verdict, Wait) is waits


def test_a_timeout_outside_bounds_the_wait_for_a_turn(registry, clock, call):
    stack = Stack("s", Timeout(2.0) + RateLimit(0.1, max_wait=60.0), registry=registry, clock=clock)
    call(stack, lambda: None)

    with pytest.raises(Refused) as caught:
        call(stack, lambda: None)

    assert caught.value.retry_after == 10.0
    assert clock.now() == 1000.0


def test_a_call_waits_for_its_turn(registry, clock, call):
    stack = Stack("s", RateLimit(2.0, max_wait=1.0), registry=registry, clock=clock)

    times = []
    for _ in range(3):
        call(stack, lambda: times.append(clock.now()))

    assert times == [1000.0, 1000.5, 1001.0]


def test_only_the_enforced_share_is_refused_and_the_rest_is_counted():
    random.seed(7)
    gate, sink = alone_with_events(RateLimit(0.001, enforced=0.25))
    passes(gate, 0.0)

    let_through = sum(passes(gate, 0.0) for _ in range(1000))

    assert 700 < let_through < 800
    assert gate.state(0.0)["exceeded"] == let_through
    assert gate.state(0.0)["refused"] == 1000 - let_through
    assert names(sink).count("RateLimitExceeded") == min(let_through, 256)


def test_a_limit_that_is_not_enforced_refuses_nobody():
    gate = alone(RateLimit(0.001, enforced=0.0))

    assert all(passes(gate, 0.0) for _ in range(100))
    assert gate.state(0.0)["exceeded"] == 99


def test_what_was_let_through_beyond_the_limit_is_not_owed_later():
    gate = alone(RateLimit(1.0, enforced=0.0))
    for _ in range(100):
        passes(gate, 0.0)

    gate.change({"enforced": 1.0})

    assert passes(gate, 1.0)


def test_a_higher_rate_helps_at_once():
    now = [0.0]
    gate = alone(RateLimit(0.01, 10.0), now=lambda: now[0])
    for _ in range(10):
        passes(gate, 0.0)

    gate.change({"rate": 10.0})

    assert not passes(gate, 0.0999)
    assert passes(gate, 0.1001)


def test_a_lower_rate_holds_at_once():
    gate = alone(RateLimit(10.0, 10.0))
    for _ in range(10):
        passes(gate, 0.0)

    gate.change({"rate": 1.0})

    assert not passes(gate, 0.9999)
    assert passes(gate, 1.0001)


def test_a_change_of_rate_leaves_what_is_available():
    gate = alone(RateLimit(10.0, 10.0))
    for _ in range(4):
        passes(gate, 0.0)

    gate.change({"rate": 2.0})

    assert gate.state(0.0)["available"] == pytest.approx(6.0)


def test_a_larger_burst_is_there_at_once():
    gate = alone(RateLimit(1.0, 2.0))
    passes(gate, 0.0)
    passes(gate, 0.0)

    gate.change({"burst": 4.0})

    assert [passes(gate, 0.0) for _ in range(3)] == [True, True, False]


def test_a_call_keeps_the_values_that_it_started_with():
    gate = alone(RateLimit(1.0, weight=lambda _: gate.change({"max_wait": 9.0}) and 1.0))
    passes(gate, 0.0)
    gate.change({"max_wait": 0.0})

    assert isinstance(gate.admit(CALL, 0.0, None), Refusal)


def test_the_state_tells_how_many_could_come_at_once():
    gate = alone(RateLimit(2.0, 10.0))

    fresh = gate.state(0.0)["available"]
    for _ in range(4):
        passes(gate, 0.0)

    assert fresh == 10.0
    assert gate.state(0.0)["available"] == 6.0
    assert gate.state(1.0)["available"] == 8.0


def test_settling_has_no_effect():
    gate = alone(RateLimit(1.0))

    gate.settle(gate.admit(CALL, 0.0, None), None, 0.0)

    assert not gate.records
    assert not passes(gate, 0.5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rate": 0}, "rate: must be a number from 0.001 to 1e+09 per second, not 0"),
        ({"rate": 1, "burst": 0.5}, "burst: must be a number from 1 to 1e+09 calls, not 0.5"),
        ({"rate": 1, "weight": 2}, "weight must be a function of the call, not 2"),
        ({"rate": 1, "scope": "tenant"}, "scope must be stack, method, target, peer"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(settings, says):
    with pytest.raises(ConfigError) as caught:
        RateLimit(**settings)

    assert says in str(caught.value)


def test_a_critical_call_may_borrow_what_the_others_then_wait_for():
    gate = alone(RateLimit(1.0, burst=2.0, critical_burst=2.0))
    critical = [Call(Method("m"), 0.0, None, [("x-ninelives-priority", "critical")])] * 5
    for _ in range(2):
        assert isinstance(gate.admit(CALL, 0.0, None), Permit)

    borrowed = [isinstance(gate.admit(call, 0.0, None), Permit) for call in critical]

    assert borrowed == [True, True, False, False, False]
    assert gate.admit(CALL, 2.0, None).retry_after == pytest.approx(1.0)
    assert isinstance(gate.admit(CALL, 3.0, None), Permit)


def test_nobody_borrows_by_default():
    gate = alone(RateLimit(1.0))
    critical = Call(Method("m"), 0.0, None, [("x-ninelives-priority", "critical")])
    gate.admit(critical, 0.0, None)

    assert isinstance(gate.admit(critical, 0.0, None), Refusal)


def test_turns_given_up_out_of_order_do_not_let_two_go_at_once():
    gate = alone(RateLimit(1.0, max_wait=10.0))
    _, middle, last = (gate.admit(CALL, 0.0, None) for _ in range(3))

    gate.abandon(middle, 0.5)

    assert gate.admit(CALL, 0.5, None).until >= last.until + 1.0


def test_a_turn_given_up_too_late_does_not_let_two_go_at_once():
    gate = alone(RateLimit(1.0, max_wait=10.0))
    _, turn, other = (gate.admit(CALL, at, None) for at in (0.0, 0.0, 5.0))

    gate.abandon(turn, 5.0)

    assert isinstance(other, Permit)
    assert not isinstance(gate.admit(CALL, 5.0, None), Permit)
