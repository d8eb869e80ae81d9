"""Retries over random outcomes and settings: every rule of when to stop, in virtual time."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ninelives_grpc import Method, Registry, Retry, RetryBudget, Stack, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import STOP_PUSHBACK, Code, failed, succeeded
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from ninelives_grpc.testing import MemorySink, VirtualClock
from tests.unit.backend import StatusError

CODES = [code for code in Code if code is not Code.OK]
ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.UNAVAILABLE, *CODES]),
        st.none() | st.integers(-2, 4000),
        st.floats(0, 2),
    ),
    min_size=1,
    max_size=12,
)
SETTINGS = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(1, 6),
        "initial_backoff": st.floats(0, 2),
        "max_backoff": st.floats(0, 3),
        "multiplier": st.floats(1, 10),
        "backoff": st.sampled_from(["constant", "linear", "exponential"]),
        "jitter": st.sampled_from(["full", "equal", "decorrelated", "a6", "none"]),
        "max_pushback": st.floats(0, 4),
        "idempotent": st.booleans(),
    }
)


def outcome_of(code, pushback):
    return succeeded(0.0) if code is Code.OK else failed(StatusError(code, pushback=pushback), 0.0)


def run(settings, attempts, limit, tokens):
    """Return the attempts made (start, end, outcome), the pauses between, and the execution."""
    clock, sink = VirtualClock(0.0), MemorySink()
    retry = Retry(**settings, budget=RetryBudget(capacity=tokens, ratio=0.0, threshold=0.0))
    expression = retry if limit is None else Timeout(limit) + retry
    stack = Stack("s", expression, registry=Registry(), clock=clock, sink=sink)
    execution = Execution(stack.plan, Call(Method("m"), 0.0), None)
    made, step = [], execution.start(0.0)
    while step is not Step.FINISH:
        if step is Step.PAUSE:
            clock.advance(execution.until - clock.now())
            step = execution.resume(clock.now())
            continue
        code, pushback, takes = attempts[len(made) % len(attempts)]
        start = clock.now()
        clock.advance(takes)
        made.append((start, clock.now(), outcome_of(code, pushback)))
        step = execution.settle(made[-1][2], clock.now())
    return made, execution, stack, sink


@given(
    settings=SETTINGS,
    attempts=ATTEMPTS,
    limit=st.none() | st.floats(0.1, 10),
    tokens=st.integers(0, 5),
)
def test_every_rule_of_when_to_stop_is_kept(settings, attempts, limit, tokens):
    made, execution, stack, sink = run(settings, attempts, limit, tokens)

    assert execution.outcome is made[-1][2]
    assert len(made) <= settings["max_attempts"]
    assert len(made) - 1 <= tokens
    assert stack.policy("retry_budget").withdrawn == len(made) - 1
    assert [event.attempt for event in sink.events if event.name == "RetryAttempt"] == list(
        range(2, len(made) + 1)
    )
    for (_, end, outcome), (start, _, _) in itertools.pairwise(made):
        wait = start - end
        assert outcome.failed
        assert limit is None or start < limit
        if outcome.pushback is None:
            assert wait <= settings["max_backoff"] + 1e-9
            repeatable = {Code.UNAVAILABLE}
            if settings["idempotent"]:
                repeatable |= {Code.INTERNAL, Code.UNKNOWN}
            assert outcome.code in repeatable
        else:
            assert outcome.pushback != STOP_PUSHBACK
            assert outcome.pushback <= settings["max_pushback"]
            assert abs(wait - outcome.pushback) < 1e-9


@given(settings=SETTINGS, attempts=ATTEMPTS)
def test_what_ends_badly_after_a_retry_says_why(settings, attempts):
    made, execution, _, sink = run(settings, attempts, None, 3)

    reasons = [event.reason for event in sink.events if event.name == "RetryExhausted"]
    if not execution.outcome.failed:
        assert reasons == []
    elif len(made) > 1 or execution.outcome.kind == "failure":
        assert len(reasons) == 1
