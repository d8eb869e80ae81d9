"""A throttle sends what the backend can take, going by nothing but what that says."""

import math
import random

import grpc
import pytest

from ninelives_grpc import ConfigError, Kind, Method, Outcome, Refused, Respond, Stack, Throttle
from ninelives_grpc.call import Call, Side
from ninelives_grpc.errors import LocalError
from ninelives_grpc.outcome import Code, cancelled, failed, refused, succeeded
from ninelives_grpc.policies.gate import Refusal

from .alone import alone, alone_with_events, names
from .backend import StatusError

METHOD = Method("shop.v1.Prices/Get", side=Side.CLIENT)
OVERLOAD = Outcome(Kind.IGNORED, Code.RESOURCE_EXHAUSTED, 0.001)
PUSHED_BACK = Outcome(Kind.IGNORED, Code.UNAVAILABLE, 0.001, pushback=0.5)
ANSWER = succeeded(0.01)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(1)


def call(priority=None, level=None, method=METHOD):
    metadata = []
    if priority is not None:
        metadata.append(("x-ninelives-priority", priority))
    if level is not None:
        metadata.append(("x-ninelives-level", str(level)))
    return Call(method, 0.0, None, metadata)


def send(gate, outcome, now=0.0, given=None):
    """Send a call that ends in some way; returns whether it was sent."""
    verdict = gate.admit(given or call(), now, None)
    if verdict.admitted:
        gate.settle(verdict, outcome, now)
    return verdict.admitted


def overloaded(gate, now=0.0, times=1):
    """Have the backend refuse some calls that have been sent before."""
    permit = gate.admit(call(), now, None)
    for _ in range(times):
        gate.settle(permit, OVERLOAD, now)


def fraction(gate, now=0.0):
    return gate.state(now)["fraction"]


def test_all_is_sent_while_the_backend_takes_all():
    gate = alone(Throttle())

    assert all(send(gate, ANSWER, n / 100) for n in range(1000))
    assert gate.state(10.0) == {"fraction": 1.0, "algorithm": "log_aimd", "refused": 0}


@pytest.mark.parametrize("outcome", [OVERLOAD, PUSHED_BACK])
def test_an_overload_refusal_lowers_the_logarithm_by_seven_tenths_of_a_step(outcome):
    gate = alone(Throttle())

    send(gate, outcome)

    assert math.log(fraction(gate)) == pytest.approx(-0.15 * 0.7)


def test_an_answer_raises_it_by_three_tenths_of_a_step():
    gate = alone(Throttle())
    overloaded(gate, times=10)
    before = math.log(fraction(gate))

    gate.settle(gate.admit(call("critical", 0), 0.0, None), ANSWER, 0.0)

    assert math.log(fraction(gate)) - before == pytest.approx(0.15 * 0.3)


def test_the_fraction_doubles_each_second_by_itself_up_to_all():
    gate = alone(Throttle())
    overloaded(gate, times=20)
    start = fraction(gate)

    assert fraction(gate, 1.0) == pytest.approx(2 * start)
    assert fraction(gate, 2.0) == pytest.approx(4 * start)
    assert fraction(gate, 60.0) == 1.0


def test_it_never_sends_less_than_the_least_fraction():
    gate = alone(Throttle(min_fraction=0.25))

    overloaded(gate, times=1000)

    assert fraction(gate) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "outcome",
    [
        # A message that is too large is told with the same code.
        failed(
            StatusError(
                Code.RESOURCE_EXHAUSTED, details="CLIENT: Sent message larger than max (9 vs. 4)"
            ),
            0.0,
        ),
        failed(LocalError("down", code=grpc.StatusCode.UNAVAILABLE), 0.1),
        failed(LocalError("late", code=grpc.StatusCode.DEADLINE_EXCEEDED), 0.1),
        cancelled(0.1),
        refused(Refusal("bulkhead", "full", code=Code.RESOURCE_EXHAUSTED, retry_after=1.0)),
        failed(Refused("full", code=Code.RESOURCE_EXHAUSTED, policy="bulkhead"), 0.0),
    ],
    ids=[
        "too large",
        "unavailable",
        "late",
        "cancelled",
        "refused further in",
        "refused by another stack",
    ],
)
def test_what_the_backend_did_not_say_neither_lowers_nor_raises_it(outcome):
    fresh, lowered = alone(Throttle()), alone(Throttle())
    overloaded(lowered, times=10)
    before = fraction(lowered)

    for gate in (fresh, lowered):
        gate.settle(gate.admit(call("critical", 0), 0.0, None), outcome, 0.0)

    assert fraction(fresh) == 1.0
    assert fraction(lowered) == before


def test_an_answer_of_our_own_teaches_nothing(registry):
    stack = Stack("s", Throttle() + Respond("later"), registry=registry)
    gate = stack.policy("throttle")
    gate.settle(gate.admit(call(), 0.0, None), OVERLOAD, stack.clock.now())
    gate._flow.rule._at = float("inf")  # no time passes
    before = gate._flow.rule._log

    assert stack.call(len, "abc") == "later"

    assert gate._flow.rule._log == before


def test_the_share_that_is_sent_is_the_fraction():
    gate = alone(Throttle(doubling=3600.0))
    overloaded(gate, times=7)
    expected = fraction(gate)

    sent = sum(gate.admit(call(), 0.0, None).admitted for _ in range(5000))

    assert sent / 5000 == pytest.approx(expected, abs=0.03)
    assert gate.state(0.0)["refused"] == 5000 - sent


def test_the_share_holds_for_calls_that_all_have_the_same_rank():
    gate = alone(Throttle(doubling=3600.0))
    overloaded(gate, times=7)
    expected = fraction(gate)

    sent = sum(gate.admit(call("normal", 50), 0.0, None).admitted for _ in range(5000))

    assert sent / 5000 == pytest.approx(expected, abs=0.03)


def test_those_calls_are_sent_that_matter_most():
    gate = alone(Throttle(doubling=3600.0))
    overloaded(gate, times=7)
    kinds = ["critical"] * 2 + ["normal"] * 4 + ["background"] * 4
    sent = dict.fromkeys(kinds, 0)
    for n in range(3100):
        kind = kinds[n % 10]
        passes = gate.admit(call(kind), 0.0, None).admitted
        # Nobody knows before some calls have come what the others are.
        sent[kind] += passes and n >= 100

    # A fraction of 0.48 has room for two in ten that are critical, and for most of the normal.
    assert sent["critical"] == 600
    assert 0.5 < sent["normal"] / 1200 < 0.9
    assert sent["background"] < 60


def test_a_refusal_says_what_is_sent_and_gives_no_time_to_come_back_at():
    gate, sink = alone_with_events(Throttle())
    overloaded(gate, times=1000)
    refusals = [
        verdict for n in range(50) if not (verdict := gate.admit(call(), 0.0, None)).admitted
    ]

    refusal = refusals[-1]

    assert refusal.code is Code.RESOURCE_EXHAUSTED
    assert refusal.retry_after is None
    assert refusal.details == (
        "throttle stack/throttle sends 0.02 of the calls: the backend has too much to do"
    )
    event = sink.events[-1]
    assert (event.name, event.reason) == ("ThrottleRefused", "log_aimd")
    assert event.fraction == pytest.approx(0.02)
    assert event.why() == "0.02 of the calls are sent, as the backend refuses for overload"


def test_beginning_and_end_are_told_once_each():
    gate, sink = alone_with_events(Throttle())
    for n in range(20):
        overloaded(gate, n / 100)

    for n in range(20, 1000):
        send(gate, ANSWER, n / 100)

    told = [event for event in sink.events if event.name != "ThrottleRefused"]
    assert names(sink)[0] == "ThrottleStarted"
    assert [event.name for event in told] == ["ThrottleStarted", "ThrottleEnded"]
    assert told[0].why() == "the backend refuses calls for overload; 0.9 of them are sent"
    assert told[1].why().startswith("the backend takes all again, after ")
    assert fraction(gate, 10.0) == 1.0


def test_an_end_is_not_told_within_a_second_of_its_beginning():
    gate, sink = alone_with_events(Throttle())

    for n in range(100):
        send(gate, OVERLOAD if n == 0 else ANSWER, n / 110)
    within = names(sink)
    send(gate, ANSWER, 1.0)

    assert within == ["ThrottleStarted"]
    assert names(sink) == ["ThrottleStarted", "ThrottleEnded"]


def test_methods_can_be_throttled_one_by_one():
    gate = alone(Throttle(scope="method", doubling=3600.0))
    bad, good = (call(method=Method(name, side=Side.CLIENT)) for name in ("a/Bad", "a/Good"))

    for _ in range(100):
        send(gate, OVERLOAD, given=bad)

    assert all(send(gate, ANSWER, given=good) for _ in range(100))
    assert not all(send(gate, OVERLOAD, given=bad) for _ in range(100))
    assert gate.state(0.0)["keys"] == 2
    assert gate.state(0.0)["held_back"] == 1


def test_targets_can_be_throttled_one_by_one():
    gate = alone(Throttle(scope="target"))
    north, south = (
        call(method=Method("a/B", side=Side.CLIENT, target=target)) for target in ("n:1", "s:1")
    )

    for _ in range(100):
        send(gate, OVERLOAD, given=north)

    assert all(send(gate, ANSWER, given=south) for _ in range(100))
    assert gate.state(0.0)["held_back"] == 1


def test_the_longest_unused_key_is_forgotten():
    gate = alone(Throttle(scope="method", max_keys=1))
    first, second = (call(method=Method(name)) for name in ("a/One", "a/Two"))
    send(gate, OVERLOAD, given=first)

    send(gate, ANSWER, given=second)

    assert gate.state(0.0)["keys"] == 1
    assert fraction(gate) == 1.0


def test_sre_sends_what_the_backend_took_twice_over():
    gate = alone(Throttle(algorithm="sre"))

    permit = gate.admit(call(), 0.0, None)
    for n in range(1000):
        gate.settle(permit, ANSWER if n % 5 == 0 else OVERLOAD, n / 1000)

    assert fraction(gate, 1.0) == pytest.approx(1 - (1000 - 2 * 200) / 1001)


def test_sre_counts_what_was_not_sent_among_what_was_asked_for():
    gate = alone(Throttle(algorithm="sre"))
    overloaded(gate, times=100)

    verdicts = [gate.admit(call(), 0.0, None) for _ in range(100)]

    held = sum(not verdict.admitted for verdict in verdicts)
    assert held > 50
    assert gate._flow.rule._requests == 100 + held


def test_sre_forgets_what_is_older_than_its_window():
    gate = alone(Throttle(algorithm="sre", sre_window=10.0))
    overloaded(gate, times=100)
    early = fraction(gate, 9.0)

    late = fraction(gate, 10.5)

    assert early == pytest.approx(0.02)
    assert late == 1.0


def test_the_algorithm_can_be_changed_meanwhile_and_goes_on_from_the_fraction_of_now():
    gate = alone(Throttle(algorithm="sre"))
    for n in range(100):
        send(gate, ANSWER if n % 5 == 0 else OVERLOAD)
    before = fraction(gate)

    gate.parameter("algorithm").set("log_aimd")

    assert before < 0.9
    assert fraction(gate) == pytest.approx(before)


def test_the_other_way_round_it_goes_on_from_about_that_fraction():
    gate = alone(Throttle(min_fraction=0.01))
    overloaded(gate, times=15)
    before = fraction(gate)

    gate.parameter("algorithm").set("sre")

    assert before == pytest.approx(0.207, abs=0.001)
    assert fraction(gate) == pytest.approx(before, abs=0.02)


def test_a_changed_parameter_holds_for_what_is_held_back_now():
    gate = alone(Throttle())
    overloaded(gate, times=100)
    low = fraction(gate)

    gate.parameter("doubling").set(0.1)

    assert low == pytest.approx(0.02)
    assert fraction(gate, 0.1) == pytest.approx(0.04)


def test_callers_of_a_function_are_refused_as_by_grpc(registry):
    stack = Stack("s", Throttle(doubling=3600.0), registry=registry)
    busy = LocalError("busy", code=Code.RESOURCE_EXHAUSTED)

    def overloaded_backend():
        raise busy

    seen = []
    for _ in range(100):
        with pytest.raises(grpc.RpcError) as raised:
            stack.call(overloaded_backend)
        seen.append(raised.value)

    ours = [error for error in seen if isinstance(error, Refused)]
    assert ours
    assert seen[0] is busy
    assert {(error.policy, error.code()) for error in ours} == {
        ("throttle", Code.RESOURCE_EXHAUSTED)
    }


def test_an_unknown_scope_is_an_error():
    with pytest.raises(ConfigError, match="scope must be stack, method, target"):
        Throttle(scope="tenant")
