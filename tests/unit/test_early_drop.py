"""An early drop refuses the more calls, the fuller what stands behind it."""

import math
import random

import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    ConcurrencyLimit,
    ConfigError,
    EarlyDrop,
    Method,
    Refused,
    Retry,
    Stack,
    Timeout,
)
from ninelives_grpc.call import Call, Side
from ninelives_grpc.outcome import Code
from ninelives_grpc.policies.gate import PERMIT

from .alone import alone, alone_with_events


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(1)


class Gauge:
    """A queue of the application."""

    def __init__(self, fill=0.0):
        self.fill = fill

    def __call__(self):
        return self.fill


def call(priority="normal"):
    return Call(Method("a/B"), 0.0, None, [("x-ninelives-priority", priority)])


def refused_of(gate, calls=4000):
    return sum(not gate.admit(call(), 0.0, None).admitted for _ in range(calls)) / calls


@pytest.mark.parametrize(
    ("fill", "share"),
    [
        (0.0, 0.0), (0.6, 0.0), (0.7, 0.075), (0.8, 0.15), (0.9, 0.225),
        (1.0, 0.3), (1.25, 0.475), (1.5, 0.65), (2.0, 1.0), (5.0, 1.0),
    ],
)  # fmt: skip
def test_the_share_that_is_refused_rises_with_the_fill(fill, share):
    gate = alone(EarlyDrop(gauge=Gauge(fill)))

    assert gate.state(0.0)["dropped"] == pytest.approx(share)
    assert refused_of(gate) == pytest.approx(share, abs=0.03)


def test_the_bounds_may_meet():
    gauge = Gauge(0.999)
    gate = alone(EarlyDrop(drop_above=1.0, drop_all_at=1.0, gauge=gauge))

    below = refused_of(gate)
    gauge.fill = 1.001
    above = refused_of(gate)

    assert (below, above) == (0.0, 1.0)


def test_those_calls_are_refused_that_matter_least():
    gate = alone(EarlyDrop(gauge=Gauge(1.0)))
    refused = {"high": 0, "background": 0}
    for n in range(2100):
        kind = "background" if n % 2 else "high"
        refused[kind] += n >= 100 and not gate.admit(call(kind), 0.0, None).admitted

    assert refused["high"] == 0
    assert refused["background"] / 1000 == pytest.approx(0.6, abs=0.05)


def test_by_default_it_goes_by_the_next_limit_further_in(registry):
    policies = (
        Bulkhead(8, name="outer") + EarlyDrop() + Timeout(1.0) + Retry() + Bulkhead(4) +
        ConcurrencyLimit()
    )  # fmt: skip
    stack = Stack("s", policies, registry=registry)

    assert stack.policy("early_drop").state(0.0)["of"] == "bulkhead"


def test_it_goes_by_the_policy_that_it_names(registry):
    stack = Stack(
        "s", EarlyDrop(of="concurrency_limit") + Bulkhead(4) + ConcurrencyLimit(), registry=registry
    )

    assert stack.policy("early_drop").state(0.0)["of"] == "concurrency_limit"


def test_it_finds_the_limit_in_another_stack_that_it_stands_before(registry):
    inner = Stack("inner", EarlyDrop(name="inner_drop") + Bulkhead(4), registry=registry)
    early = Stack("early", EarlyDrop(), registry=registry)

    Stack("outer", early + inner, registry=registry)

    assert early.policy("early_drop").followed is inner.policy("bulkhead")
    assert inner.policy("inner_drop").followed is inner.policy("bulkhead")


def test_it_finds_a_limit_behind_a_choice(registry):
    stack = Stack("s", EarlyDrop() + (Bulkhead(4) | Bulkhead(5)), registry=registry)

    assert stack.policy("early_drop").state(0.0)["of"] == "bulkhead"


def test_a_name_that_leads_nowhere_is_an_error(registry):
    for name in ("bulkhed", "timeout", "early_drop"):
        with pytest.raises(ConfigError, match=f"a policy of this stack with a limit, not '{name}'"):
            Stack("s", EarlyDrop(of=name) + Timeout(1.0) + Bulkhead(4), registry=registry)


def test_places_count_where_nobody_may_wait(registry):
    stack = Stack("s", EarlyDrop() + Bulkhead(10), registry=registry)
    early, bulkhead = stack.policy("early_drop"), stack.policy("bulkhead")
    fills = []
    for _ in range(10):
        bulkhead.admit(call(), 0.0, None)
        fills.append(early.state(0.0)["fill"])

    assert fills == [n / 10 for n in range(1, 11)]
    assert early.state(0.0)["dropped"] == pytest.approx(0.3)


def test_the_queue_counts_where_calls_may_wait(registry):
    stack = Stack("s", EarlyDrop() + Bulkhead(2, max_queue=4, max_wait=1.0), registry=registry)
    early, bulkhead = stack.policy("early_drop"), stack.policy("bulkhead")
    fills = []
    for _ in range(6):
        bulkhead.admit(call(), 0.0, None)
        fills.append(early.state(0.0)["fill"])

    assert fills == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("limit", [ConcurrencyLimit(initial_limit=8), AdmissionQueue(8)])
def test_running_calls_count_as_a_share_of_a_limit(registry, limit):
    stack = Stack("s", EarlyDrop() + limit, registry=registry)
    for _ in range(4):
        stack.policy(limit.default_name()).admit(call(), 0.0, None)

    assert stack.policy("early_drop").state(0.0)["fill"] == 0.5


def test_a_refusal_says_how_full_it_is():
    gate, sink = alone_with_events(EarlyDrop(gauge=Gauge(3.0)))

    refusal = gate.admit(call(), 0.0, None)

    assert refusal.code is Code.RESOURCE_EXHAUSTED
    assert refusal.retry_after is None
    assert refusal.details == (
        "early drop stack/early_drop refuses 100% of the calls: the gauge fills up"
    )
    (event,) = sink.events
    assert event.name == "EarlyDropRefused"
    assert event.why() == "the gauge is 300% full, and 100% of the calls refused"


def test_an_infinite_fill_is_told_as_a_number_that_can_be_written():
    gate = alone(EarlyDrop(gauge=Gauge(math.inf)))

    assert gate.state(0.0)["fill"] == 1000.0
    assert refused_of(gate, 10) == 1.0


def test_a_refusal_tells_of_the_fill_that_it_was_for():
    fills = iter([2.0, 0.1])
    gate, sink = alone_with_events(EarlyDrop(gauge=lambda: next(fills)))

    assert not gate.admit(call(), 0.0, None).admitted

    assert (sink.events[-1].fill, sink.events[-1].dropped) == (2.0, 1.0)


def test_a_gauge_that_does_not_know_refuses_nobody():
    gate = alone(EarlyDrop(gauge=Gauge(math.nan)))

    assert refused_of(gate, 10) == 0
    assert gate.state(0.0)["fill"] is None


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: None, lambda: "full"])
def test_a_gauge_that_raises_or_says_nonsense_refuses_nobody_and_is_logged_once(caplog, broken):
    gate = alone(EarlyDrop(gauge=broken))

    assert refused_of(gate, 10) == 0
    assert [record.message for record in caplog.records] == [
        "the gauge of stack/early_drop failed; nothing is refused then"
    ]


def test_chance_does_not_decide_twice_over_a_call_that_is_asked_for_on_arrival():
    gate, passed = alone(EarlyDrop(gauge=Gauge(1.3))), 0
    arriving, served = (
        Call(Method("a/B", side=Side.SERVER), 0.0, None, (), None, None, peer)
        for peer in (None, lambda: "ipv4:1")
    )
    for _ in range(4000):
        verdict = gate.admit(arriving, 0.0, None)
        if verdict.admitted:
            gate.take_back(verdict, 0.0)
            passed += gate.admit(served, 0.0, None).admitted

    assert passed / 4000 == pytest.approx(0.49, abs=0.03)


def test_calls_that_have_arrived_and_never_came_are_forgotten_when_there_is_room():
    gauge = Gauge(2.0)
    gate = alone(EarlyDrop(gauge=gauge))
    served = Call(Method("a/B", side=Side.SERVER), 0.0, None, (), None, None, lambda: "ipv4:1")
    for _ in range(10):
        gate.take_back(PERMIT, 0.0)

    gauge.fill = 0.0
    gate.admit(served, 0.0, None)
    gauge.fill = 2.0

    assert not gate.admit(served, 0.0, None).admitted


def test_a_changed_bound_holds_from_the_next_call_on():
    gate = alone(EarlyDrop(gauge=Gauge(0.5)))
    before = refused_of(gate, 100)

    gate.change({"drop_above": 0.0, "drop_when_full": 1.0})

    assert before == 0
    assert refused_of(gate) == pytest.approx(0.5, abs=0.03)


def test_callers_are_refused(registry):
    stack = Stack("s", EarlyDrop(gauge=Gauge(2.0)) + Bulkhead(4), registry=registry)

    with pytest.raises(Refused) as raised:
        stack.call(len, "abc")

    assert raised.value.policy == "early_drop"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "x", "gauge": lambda: 0.0}, "give either of or gauge"),
        ({"of": 3}, "of must be the name of a policy, not 3"),
        ({"gauge": 0.5}, "gauge must be a function, not 0.5"),
    ],
)
def test_options_of_the_wrong_kind_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        EarlyDrop(**options)
