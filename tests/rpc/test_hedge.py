"""Hedged calls over real channels: the slow answer is not waited for, and nothing is left of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Hedge, Retry, Stack, Timeout, wrap_channel
from ninelives_grpc.testing import MemorySink

from . import leaks
from .backend import ANSWER, DOWN, STALL, RpcKind, expected, fail
from .clients import PROTECTED, REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from .backend import Backend
    from .clients import Client

SOON: dict[str, Any] = {"delay": 0.02, "idempotent": True}
LATE: dict[str, Any] = {"delay": 30.0, "idempotent": True}
UNARY = RpcKind.UNARY_UNARY
WAYS = [
    (protected, style)
    for protected in PROTECTED
    for style in (
        (Style.CALL, Style.WITH_CALL, Style.FUTURE)
        if protected.startswith("sync")
        else (Style.ITERATE,)
    )
]
every_way = pytest.mark.parametrize(("protected", "style"), WAYS)
every_client = pytest.mark.parametrize("protected", PROTECTED)
streams = pytest.mark.parametrize("kind", [kind for kind in RpcKind if kind is not UNARY])


def counts(stack: Stack) -> dict[str, int]:
    """Return how often what happened to hedges."""
    counted = stack.emitter.counts.items()
    return {event: count for (policy, event), count in counted if policy == "hedge"}


@every_way
def test_a_slow_replica_is_answered_for_by_the_hedge(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Timeout(20.0) + Hedge(**SOON) + CircuitBreaker() + Bulkhead(2))
    backend.plays(STALL, ANSWER)

    running = connect(protected, stack).start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    first, hedge = backend.visits
    assert not first.ended or first.gone
    assert first.metadata.get("x-ninelives-attempt") is None
    assert hedge.metadata["x-ninelives-attempt"] == "2"
    assert counts(stack) == {"HedgeStarted": 1, "HedgeWon": 1}
    backend.release()


@every_way
def test_the_loser_is_cancelled_on_the_server(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**SOON) + CircuitBreaker() + Bulkhead(2))
    backend.plays(STALL, ANSWER)

    connect(protected, stack).start(UNARY, style).result()

    backend.wait_until_gone()
    assert backend.visits[0].gone
    leaks.assert_nothing_held([stack])
    assert stack.policy("circuit_breaker").state(stack.clock.now())["calls"] == 1
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("OK", "success"): 1}


@every_way
def test_an_answer_in_time_is_asked_for_once(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**LATE))

    running = connect(protected, stack).start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    assert backend.attempts == 1
    assert counts(stack) == {}


@every_way
def test_a_failure_that_may_pass_is_hedged_at_once(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**LATE))
    backend.plays(DOWN, ANSWER)

    running = connect(protected, stack).start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    assert backend.attempts == 2


@every_way
def test_a_fatal_error_ends_the_other_attempts(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**SOON))
    backend.plays(STALL, fail(StatusCode.NOT_FOUND, "no such thing"))

    running = connect(protected, stack).start(UNARY, style).result()

    assert (running.code, running.details) == (StatusCode.NOT_FOUND, "no such thing")
    backend.wait_until_gone()


@every_way
def test_when_all_attempts_fail_the_first_error_is_raised(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**LATE))
    backend.plays(
        fail(StatusCode.UNAVAILABLE, "the first"), fail(StatusCode.UNAVAILABLE, "the second")
    )

    running = connect(protected, stack).start(UNARY, style).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "the first")
    assert any("the second" in note for note in running.error.__notes__)  # type: ignore[union-attr]


@every_way
def test_pushback_is_waited_for_while_nothing_runs(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**LATE))
    backend.plays(fail(StatusCode.UNAVAILABLE, pushback=100), ANSWER)

    running = connect(protected, stack).start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    first, second = backend.visits
    assert second.at - first.at >= 0.099


@every_way
def test_a_retry_outside_tries_again_when_all_have_failed(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Retry(2, initial_backoff=0.01) + Hedge(**LATE))
    backend.plays(DOWN, DOWN, DOWN, ANSWER)

    running = connect(protected, stack).start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    assert backend.attempts == 4


@pytest.mark.parametrize(
    ("protected", "style"),
    [("sync-wrap", Style.FUTURE), ("sync-interceptor", Style.FUTURE), ("aio-wrap", Style.ITERATE)],
)
def test_cancelling_the_call_cancels_every_attempt(
    protected: str,
    style: Style,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(1, name="whole") + Hedge(**SOON) + Bulkhead(2))
    backend.plays(STALL, STALL)
    running = connect(protected, stack).start(UNARY, style)
    backend.wait_until_stalled(2)

    running.cancel()

    assert running.result().code is StatusCode.CANCELLED
    backend.wait_until_gone(2)
    leaks.assert_nothing_held([stack])


@every_client
def test_closing_the_channel_ends_every_attempt(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**SOON) + Bulkhead(2))
    client = connect(protected, stack)
    backend.plays(STALL, STALL)
    running = client.start(UNARY, client.styles(UNARY)[-1])
    backend.wait_until_stalled(2)

    client.close()

    assert running.result().error is not None
    backend.wait_until_gone(2)


@pytest.mark.parametrize("protected", ["sync-wrap", "aio-wrap"])
def test_closing_the_channel_ends_the_wait_for_a_hedge(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(**LATE))
    client = connect(protected, stack)
    backend.plays(fail(StatusCode.UNAVAILABLE, pushback=30_000))
    running = client.start(UNARY, client.styles(UNARY)[-1])
    leaks.eventually(lambda: stack.policy("retry_budget").withdrawn, str)  # type: ignore[attr-defined]

    client.close()

    assert running.result().error is not None
    assert backend.attempts == 1


@every_client
def test_every_attempt_has_the_deadline_of_the_call(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    # Late enough to be told from the first attempt: gRPC rounds what is left up, by 10 ms here.
    stack = new_stack(Hedge(**SOON | {"delay": 0.1}))
    client = connect(protected, stack)
    backend.plays(STALL, STALL)

    running = client.start(UNARY, client.styles(UNARY)[0], timeout=0.5).result()

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    first, hedge = (visit.remaining for visit in backend.visits)
    assert first is not None
    assert hedge is not None
    assert first < 0.6
    assert hedge < 0.49


@every_client
@streams
def test_streams_pass_as_if_there_were_no_hedge(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Retry(2, initial_backoff=0.0) + Hedge(0.0, idempotent=True))
    client = connect(protected, stack)
    for style in client.styles(kind):
        before = backend.attempts
        backend.plays(DOWN, STALL)
        running = client.start(kind, style)
        backend.wait_until_stalled(1 + before // 2)

        backend.release()

        assert running.result().error is None
        assert backend.attempts - before == 2
    assert counts(stack) == {}


@every_client
def test_a_method_not_known_to_be_idempotent_is_not_hedged(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Hedge(0.0, idempotent=["test.Scripted/other"]))
    client = connect(protected, stack)
    backend.plays(STALL)
    running = client.start(UNARY, client.styles(UNARY)[0])
    backend.wait_until_stalled()

    backend.release()

    assert running.result().messages == expected(UNARY, REQUESTS)
    assert backend.attempts == 1


@every_client
def test_the_delay_is_learned_from_the_answers(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    sink = MemorySink()
    stack = new_stack(Hedge(quantile=1.0, minimum_samples=3, idempotent=True), sink=sink)
    client = connect(protected, stack)
    style = client.styles(UNARY)[-1]
    for _ in range(3):
        client.start(UNARY, style).result()
        leaks.eventually(lambda: leaks.counted(stack), str)
    backend.plays(STALL, ANSWER)

    running = client.start(UNARY, style).result()

    assert running.messages == expected(UNARY, REQUESTS)
    assert backend.attempts == 5
    backend.wait_until_gone()


async def test_the_answer_of_a_hedge_tells_of_itself_under_asyncio(
    target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(Hedge(**SOON))
    backend.plays(STALL, ANSWER)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = channel.unary_unary(UNARY.path)(b"a")

        answer = await call

        assert answer == await call == b"a"
        assert await call.code() is StatusCode.OK
        assert await call.initial_metadata() is not None
        assert call.done()
        await asyncio.to_thread(backend.wait_until_gone)


@pytest.mark.parametrize("rounds", range(6))
async def test_a_call_that_is_cancelled_as_its_turn_comes_leaves_nothing(
    rounds: int, target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    bulkhead = Bulkhead(1, max_queue=1, max_wait=60.0)
    stack = new_stack(Hedge(**LATE) + bulkhead)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        method = channel.unary_unary(UNARY.path)
        backend.plays(STALL)
        first, second = method(REQUESTS[0]), method(REQUESTS[0])
        await asyncio.to_thread(backend.wait_until_stalled)

        first.cancel()
        for _ in range(rounds):
            # However far the second has come by then.
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

        await asyncio.to_thread(leaks.assert_nothing_held, [stack])


async def test_many_calls_leave_nothing_behind_under_asyncio(
    target: str, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(Hedge(0.0, idempotent=True) + Bulkhead(100))
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        method = channel.unary_unary(UNARY.path)

        answers = await asyncio.gather(*(method(b"a") for _ in range(30)))

    assert answers == [b"a"] * 30


def test_many_blocking_calls_leave_nothing_behind(
    wrapped: Callable[..., grpc.Channel], new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(Hedge(0.0, idempotent=True) + Bulkhead(100))
    method = wrapped(stack).unary_unary(UNARY.path)

    answers = [method(b"a") for _ in range(30)]

    assert answers == [b"a"] * 30
    assert counts(stack)["HedgeStarted"] > 0
