"""The linter finds what does not go well together, where it stands, and as it is now."""

import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyBudget,
    ConcurrencyLimit,
    EarlyDrop,
    Hedge,
    LoadShed,
    RateLimit,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    ThrottleBudget,
    Timeout,
    WindowBudget,
    laws,
    presets,
)
from ninelives_grpc.pressure import Memory, Stall
from tests.unit.steered import Steered


def attempt(seconds):
    return Timeout(seconds, name="attempt")


FREE = RetryBudget(cost=0.0)
NOTHING = RetryBudget(threshold=1.0)
AT_FAULT = {
    "attempts that outlast the deadline": (
        lambda: Timeout(2.0) + Retry(3) + attempt(1.0),
        [("attempts-outlast-deadline", "s/attempt")],
    ),
    "the shortest of several limits": (
        lambda: Timeout(9.0) + Timeout(2.0) + Retry(3) + attempt(1.0) + Timeout(5.0),
        [("attempts-outlast-deadline", "s/attempt")],
    ),
    "a breaker outside": (
        lambda: CircuitBreaker() + Retry(),
        [("breaker-outside-retry", "s/circuit_breaker")],
    ),
    "a retry in a retry": (
        lambda: Retry(3) + Timeout(1.0) + Retry(4),
        [("retries-multiply", "s/retry_2")],
    ),
    "a queue": (
        lambda: Timeout(1.0) + Bulkhead(4, max_queue=8, max_wait=1.0),
        [("queue-outlasts-deadline", "s/bulkhead")],
    ),
    "a turn": (
        lambda: Timeout(1.0) + RateLimit(10.0, max_wait=2.0),
        [("queue-outlasts-deadline", "s/rate_limit")],
    ),
    "silence": (
        lambda: Timeout(60.0, idle=10.0) + Timeout(10.0),
        [("idle-outlasts-limit", "s/timeout")],
    ),
    "an order without a queue": (
        lambda: Bulkhead(4, order="priority", max_queue=8),
        [("rank-without-queue", "s/bulkhead")],
    ),
    "fair shares without an order": (
        lambda: Bulkhead(4, max_queue=8, max_wait=1.0, fair_by="peer"),
        [("rank-without-queue", "s/bulkhead")],
    ),
    "an early drop with nothing behind it": (
        lambda: Bulkhead(4) + EarlyDrop() + Timeout(1.0) + RateLimit(10.0),
        [("early-drop-without-limit", "s/early_drop")],
    ),
    "an early drop with a limit behind one side only": (
        lambda: EarlyDrop() + (Bulkhead(4) | Timeout(1.0)),
        [("early-drop-without-limit", "s/early_drop")],
    ),
    "a load shed that is told nothing": (
        lambda: LoadShed(sources=[]) + Bulkhead(4),
        [("load-shed-without-source", "s/load_shed")],
    ),
    "a wait in a queue": (
        lambda: AdmissionQueue() + Bulkhead(4, max_queue=8, max_wait=1.0),
        [("waits-twice", "s/bulkhead")],
    ),
    "a turn before a queue": (
        lambda: RateLimit(10.0, max_wait=2.0) + AdmissionQueue(),
        [("waits-twice", "s/rate_limit")],
    ),
    "free retries": (lambda: Retry(budget=FREE), [("retries-without-budget", "s/retry")]),
    "as many retries as calls": (
        lambda: Retry(3, budget=WindowBudget(ratio=2.0)),
        [("retries-without-budget", "s/retry")],
    ),
    "as many retries as running calls": (
        lambda: Retry(2, budget=ConcurrencyBudget(ratio=1.0)),
        [("retries-without-budget", "s/retry")],
    ),
    "an answer before the fallback": (
        lambda: Retry() | Respond("none") | Timeout(1.0),
        [("fallback-never-runs", "s/fallback")],
    ),
    "a fallback that is never paid": (
        lambda: Retry(budget=NOTHING) | Timeout(1.0),
        [("fallback-never-runs", "s/fallback")],
    ),
    "a hedge of nothing": (Hedge, [("hedge-not-idempotent", "s/hedge")]),
    "inside of a fallback": (
        lambda: CircuitBreaker() + ((Retry() + Timeout(1.0)) | Respond("none")),
        [("breaker-outside-retry", "s/circuit_breaker")],
    ),
    "behind a race": (
        lambda: (Timeout(1.0) & Timeout(2.0)) + Retry() + attempt(1.0),
        [("attempts-outlast-deadline", "s/attempt")] * 2,
    ),
}
SOUND = {
    "a shorter silence": lambda: Timeout(60.0, idle=5.0) + Retry() + Timeout(10.0),
    "an early drop before a bulkhead": lambda: EarlyDrop() + Timeout(1.0) + Bulkhead(4),
    "an early drop before a limit": lambda: EarlyDrop() + (ConcurrencyLimit() | Bulkhead(4)),
    "an early drop with a gauge": lambda: EarlyDrop(gauge=float),
    "an early drop of a policy that it names": lambda: Bulkhead(4) + EarlyDrop(of="bulkhead"),
    "a load shed with its source": lambda: LoadShed() + Bulkhead(4),
    "an order with a queue": lambda: Bulkhead(
        4, max_queue=8, max_wait=1.0, order="priority", fair_by="peer"
    ),
    "attempts within the deadline": lambda: Timeout(3.0) + Retry(3) + attempt(1.0),
    "no attempt timeout": lambda: Timeout(2.0) + Retry(3),
    "no retry": lambda: Timeout(1.0) + Retry(1) + CircuitBreaker() + attempt(0.5),
    "a breaker inside": lambda: Retry() + CircuitBreaker(),
    "a breaker that is off": lambda: CircuitBreaker(mode="disabled") + Retry(),
    "retries side by side": lambda: Retry() | Retry(),
    "a retry that does not": lambda: Retry(1, budget=FREE) + Timeout(1.0),
    "a short queue": lambda: Timeout(1.0) + Bulkhead(4, max_queue=8, max_wait=0.1),
    "no queue": lambda: Timeout(1.0) + Bulkhead(4, max_wait=5.0),
    "a hedge of all": lambda: Hedge(idempotent=True),
    "a hedge of some": lambda: Hedge(idempotent=["a.B/C"]),
    "a hedge that is off": lambda: Hedge(max_hedges=0),
    "a queue outside the limit": lambda: Bulkhead(4, max_queue=8, max_wait=5.0) + Timeout(1.0),
    "throttled retries": lambda: Retry(budget=ThrottleBudget()),
    "few retries a call": lambda: Retry(3, budget=WindowBudget(ratio=0.5)),
    "an answer that may fail": lambda: Respond(len) | Timeout(1.0),
    "an answer that may be refused": lambda: (Bulkhead(1) + Respond("x")) | Timeout(1.0),
    "an answer that costs nothing": lambda: Retry(budget=NOTHING) | Respond("x"),
}


def found(stack):
    return [(finding.rule, finding.path) for finding in stack.lint()]


@pytest.mark.parametrize(("expression", "expected"), AT_FAULT.values(), ids=AT_FAULT)
def test_it_finds(registry, expression, expected):
    assert found(Stack("s", expression(), registry=registry)) == expected


@pytest.mark.parametrize("expression", SOUND.values(), ids=SOUND)
def test_it_does_not_mind(registry, expression):
    assert found(Stack("s", expression(), registry=registry)) == []


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_are_sound(registry, preset):
    assert getattr(presets, preset)("s", registry=registry).lint() == []


def test_it_goes_by_the_values_that_hold_now(registry):
    stack = Stack("s", Timeout(3.0) + Retry(3) + attempt(1.0), registry=registry)

    stack.parameters["timeout/seconds"].set(2.0)
    after = found(stack)
    stack.parameters["retry/max_attempts"].set(2)

    assert after == [("attempts-outlast-deadline", "s/attempt")]
    assert found(stack) == []


def test_a_finding_says_in_one_line_what_is_wrong_and_what_to_do(registry):
    (finding,) = Stack("s", Timeout(2.0) + Retry(3) + attempt(1.0), registry=registry).lint()

    assert str(finding) == (
        "s/attempt: 3 attempts of 1 s take longer than the 2 s of s/timeout; set s/attempt/seconds"
        " to 0.667 or less, or make fewer attempts [attempts-outlast-deadline]"
    )


def test_a_hedge_is_judged_by_the_methods_that_were_called(registry):
    named = Stack("named", Hedge(idempotent=[f"{__name__}/known"]), registry=registry)

    def known():
        return 1

    def other():
        return 2

    known.__qualname__, other.__qualname__ = "known", "other"
    named.call(known)
    before = named.lint()
    named.call(other)
    (finding,) = named.lint()

    assert before == []
    assert finding.message == f"{__name__}/other is not known to be idempotent, and is never hedged"


def test_policies_of_a_nested_stack_keep_their_addresses(registry):
    inner = Stack("inner", CircuitBreaker(), registry=registry)
    outer = Stack("outer", inner + Retry(), registry=registry)

    assert found(inner) == []
    assert found(outer) == [("breaker-outside-retry", "inner/circuit_breaker")]


def test_a_loop_over_the_threshold_of_a_breaker_is_found_once_it_is_on():
    world = Steered(
        laws.BreakerThresholdLaw(), CircuitBreaker(), "circuit_breaker/failure_rate_threshold"
    )
    off = found(world.stack)

    world.stack.parameters["breaker_threshold/enabled"].set(True)

    assert off == []
    assert found(world.stack) == [("loop-feeds-back", "s/breaker_threshold")]


def test_a_value_outside_of_what_its_loop_may_set_is_found():
    world = Steered(laws.AimdLaw(), Bulkhead(10), bounds=(20, 40))
    (finding,) = world.stack.lint()

    assert (finding.rule, finding.path) == ("loop-out-of-bounds", "s/aimd")
    assert finding.message == "s/bulkhead/max_concurrent is 10, and the loop moves it from 20 to 40"
    assert world.stack.lint({"s/bulkhead": Bulkhead(30)}) == []


def test_a_load_shed_that_this_system_tells_nothing_is_found(registry, monkeypatch):
    monkeypatch.setattr(Memory, "read", lambda _: None)
    monkeypatch.setattr(Stall, "read", lambda _: None)
    blind = Stack("blind", LoadShed(sources=["memory", "memory_stall"]), registry=registry)
    other = Stack("other", LoadShed(sources=["memory", "cpu"]), registry=registry)

    (finding,) = blind.lint()

    assert finding.rule == "load-shed-without-source"
    assert finding.message == (
        "this system does not tell memory or memory_stall, so it never refuses a call"
    )
    assert other.lint() == []
