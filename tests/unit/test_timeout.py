import asyncio

import pytest

from ninelives_grpc import Method, RateLimit, Stack, TimedOut, Timeout
from ninelives_grpc.call import Call, ServedCall, current_call, serving, shield
from ninelives_grpc.errors import AioTimedOut
from ninelives_grpc.outcome import Code, failed, succeeded
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import alone_with_events, names
from tests.unit.backend import Backend, StatusError


@pytest.fixture
def stack(registry, clock):
    def build(expression, **settings):
        return Stack("s", expression, registry=registry, clock=clock, **settings)

    return build


def served_until(deadline, clock, *, gone=lambda: False):
    return ServedCall(Method("served.v1.S/M"), deadline, clock.now, gone)


@pytest.fixture
def served(clock):
    """Makes the test serve a call."""
    tokens = []

    def begin(deadline, **settings):
        tokens.append(serving.set(served_until(deadline, clock, **settings)))

    yield begin
    for token in reversed(tokens):
        serving.reset(token)


def test_a_function_in_time_is_left_alone(stack, call, clock):
    assert call(stack(Timeout(1.0)), Backend(clock, "answer", takes=0.9)) == "answer"


def test_a_function_that_takes_too_long_has_timed_out(stack, call, clock):
    sink = MemorySink()

    with pytest.raises(TimedOut) as caught:
        call(stack(Timeout(1.0), sink=sink), Backend(clock, "answer", takes=1.5))

    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert caught.value.stack == "s"
    assert [event.limit for event in sink.events if event.name == "TimeoutOccurred"] == [1.0]


def test_an_error_that_comes_late_is_still_the_error(stack, clock):
    error = StatusError(Code.NOT_FOUND)

    with pytest.raises(StatusError) as caught:
        stack(Timeout(1.0)).call(Backend(clock, error, takes=1.5))

    assert caught.value is error


def test_under_asyncio_the_function_is_cancelled(stack, clock):
    seen = []

    async def function():
        try:
            clock.advance(2.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(AioTimedOut) as caught:
        asyncio.run(stack(Timeout(1.0)).acall(function))

    assert seen == ["cancelled"]
    assert "took longer than 2 s" in str(caught.value)


def test_a_timeout_error_of_the_functions_own_is_not_ours(stack, call, clock):
    error = TimeoutError("theirs")
    built = stack(Timeout(1.0))

    with pytest.raises(TimeoutError) as caught:
        call(built, Backend(clock, error))

    assert caught.value is error
    assert built.policy("timeout").state(0.0)["occurred"] == 0


@pytest.mark.parametrize(
    ("outer", "inner", "occurred"),
    [(1.0, 5.0, (1, 0)), (5.0, 1.0, (0, 1)), (1.0, 1.0, (1, 0))],
)
def test_of_nested_limits_the_shorter_one_occurs(stack, call, clock, outer, inner, occurred):
    built = stack(Timeout(outer) + Timeout(inner))

    with pytest.raises(TimedOut):
        call(built, Backend(clock, "late", takes=3.0))

    states = [built.policy(name).state(0.0)["occurred"] for name in ("timeout", "timeout_2")]
    assert tuple(states) == occurred
    assert clock.now() == 1003.0


def test_the_deadline_of_the_call_being_served_is_inherited_less_a_margin(stack, call, served):
    served(1002.0)
    seen = []

    call(stack(Timeout(60.0, margin=0.5)), lambda: seen.append(current_call().deadline))

    assert seen == [1001.5]


def test_a_shorter_limit_of_its_own_holds(stack, call, served):
    served(1002.0)
    seen = []

    call(stack(Timeout(1.0)), lambda: seen.append(current_call().deadline))

    assert seen == [1001.0]


def test_a_shield_lets_work_run_on(stack, call, served):
    served(1002.0)
    seen = []

    with shield():
        call(stack(Timeout(60.0)), lambda: seen.append(current_call().deadline))

    assert seen == [1060.0]


@pytest.mark.parametrize("deadline", [None, 1100.0])
def test_a_distant_or_missing_deadline_changes_nothing(stack, call, served, deadline):
    served(deadline)
    seen = []

    call(stack(Timeout(2.0)), lambda: seen.append(current_call().deadline))

    assert seen == [1002.0]


def test_limits_are_inherited_from_stack_to_stack(registry, stack, call, clock):
    inner = Stack("inner", Timeout(60.0, margin=0.0), registry=registry, clock=clock)
    seen = []

    call(
        stack(Timeout(2.0)),
        lambda: inner.call(lambda: seen.append(current_call().deadline)),
    )

    assert seen == [1002.0]


def test_who_went_away_is_seen_inside_protected_functions(stack, call, served):
    gone = []
    served(1100.0, gone=lambda: bool(gone))
    seen = []

    def function():
        seen.append(current_call().cancelled)
        gone.append("client")
        seen.append(current_call().cancelled)

    call(stack(Timeout(2.0)), function)

    assert seen == [False, True]


def test_a_limit_that_is_the_callers_deadline_is_not_ours(stack, call, clock, served):
    served(1002.0)
    sink = MemorySink()
    built = stack(Timeout(60.0), sink=sink)

    with pytest.raises(TimedOut):
        call(built, Backend(clock, "late", takes=3.0))

    assert "TimeoutOccurred" not in names(sink)
    assert built.policy("timeout").state(0.0)["occurred"] == 0


def ended(policy, outcome, *, own, outer=None, inherited=None, now):
    flow, sink = alone_with_events(policy)
    flow.ended(Call(Method("m"), 0.0, inherited=inherited), outcome, own, outer, now)
    return outcome.timed_out, names(sink)


def late():
    return failed(StatusError(Code.DEADLINE_EXCEEDED), 1.0)


OURS = (True, ["TimeoutOccurred"])
NOT_OURS = (False, [])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"own": 1.0, "now": 1.0}, OURS),
        ({"own": 1.0, "now": 0.995}, OURS),
        ({"own": 1.0, "now": 0.9}, NOT_OURS),
        ({"own": 1.0, "outer": 2.0, "now": 1.0}, OURS),
        ({"own": 1.0, "outer": 1.0, "now": 1.0}, NOT_OURS),
        ({"own": 1.0, "inherited": 2.0, "now": 1.0}, OURS),
        ({"own": 1.0, "inherited": 1.0, "now": 1.0}, NOT_OURS),
        ({"own": 1.99, "inherited": 2.0, "now": 1.99}, NOT_OURS),
    ],
)
def test_a_timeout_is_ours_only_if_our_timer_fired_and_the_callers_deadline_did_not(
    times, expected
):
    assert ended(Timeout(1.0), late(), **times) == expected


def test_other_errors_and_what_an_inner_limit_did_are_not_ours():
    inner = late()
    inner.timed_out = True
    other = failed(StatusError(Code.UNAVAILABLE), 1.0)

    assert ended(Timeout(1.0), other, own=1.0, now=1.0) == NOT_OURS
    assert ended(Timeout(1.0), inner, own=1.0, now=1.0)[1] == []


def trained(duration=0.5, calls=20, **settings):
    flow, sink = alone_with_events(Timeout(5.0, **settings))
    for _ in range(calls):
        flow.learn(Call(Method("m"), 0.0), succeeded(duration))
    return flow, sink


def arriving(deadline, method="m"):
    return Call(Method(method), 0.0, deadline, peer=lambda: "peer")


def test_a_served_call_with_less_time_left_than_its_median_is_refused():
    flow, sink = trained()

    refusal = flow.hopeless(arriving(10.4), 10.0)

    assert refusal.details == "0.4 s left, and m takes 0.5 s"
    assert refusal.policy == "timeout"
    event = sink.events[0]
    assert (event.name, event.remaining, event.needed) == (
        "TimeoutRefused",
        pytest.approx(0.4),
        0.5,
    )
    assert flow.state(0.0) == {"occurred": 0, "refused": 1}


@pytest.mark.parametrize(
    ("flow", "call"),
    [
        (trained()[0], arriving(10.6)),
        (trained()[0], arriving(None)),
        (trained()[0], arriving(10.1, "another")),
        (trained(calls=19)[0], arriving(10.1)),
        (trained(refuse_hopeless=False)[0], arriving(10.1)),
    ],
    ids=["enough time", "no deadline", "unknown method", "too few calls", "turned off"],
)
def test_a_served_call_that_may_succeed_is_let_in(flow, call):
    assert flow.hopeless(call, 10.0) is None


def serve(stack, clock, peer=lambda: "peer"):
    """Take a call with 0.1 s left, which would take 0.5 s, through a server's stack."""
    call = Call(Method("m"), clock.now(), clock.now() + 0.1, peer=peer)
    execution = Execution(stack.plan, call, call.deadline)
    execution.start(clock.now())
    if not execution.finished:
        execution.settle(succeeded(0.5), clock.now())
    return execution.outcome


def test_only_served_calls_are_judged_and_learned_from(registry, clock):
    stack = Stack("s", Timeout(5.0), registry=registry, clock=clock)

    clients = [serve(stack, clock, peer=None) for _ in range(30)]
    served = [serve(stack, clock) for _ in range(21)]

    assert [outcome.refusal for outcome in clients] == [None] * 30
    assert [outcome.refusal for outcome in served[:20]] == [None] * 20
    assert served[20].refusal.policy == "timeout"


def test_calls_that_are_refused_further_in_do_not_lower_the_median(registry, clock):
    stack = Stack("s", Timeout(5.0) + RateLimit(0.001, 20.0), registry=registry, clock=clock)
    stack.policy("timeout").change({"refuse_hopeless": False})

    policies = [serve(stack, clock).refusal for _ in range(120)]
    stack.policy("timeout").change({"refuse_hopeless": True})

    assert [refusal.policy for refusal in policies[20:]] == ["rate_limit"] * 100
    assert serve(stack, clock).refusal.policy == "timeout"
