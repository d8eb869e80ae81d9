"""How long a stream took: to its first message for who asks that, else from start to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ninelives_grpc import Bulkhead, CircuitBreaker, ConcurrencyLimit, Refused

from . import leaks
from .backend import STALL, Backend, Play, RpcKind
from .clients import PROTECTED, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack
    from ninelives_grpc.testing import VirtualClock

    from .clients import Client

LONG = 100.0
every_client = pytest.mark.parametrize("protected", PROTECTED)
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])


def _slow_calls(stack: Stack) -> object:
    """Return how many calls count as slow, once the only one there was has been counted."""
    breaker = stack.policy("circuit_breaker")
    leaks.eventually(lambda: breaker.state(stack.clock.now())["calls"] == 1, str)
    return breaker.state(stack.clock.now())["slow_calls"]


@every_client
@response_streams
def test_stream_that_lasts_is_not_slow_when_its_first_message_came_fast(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
) -> None:
    stack = new_stack(Bulkhead(8) + CircuitBreaker(slow_call_duration=1.0), clock=clock)
    client = connect(protected, stack)
    for style in client.styles(kind):
        backend.plays(Play(messages=2, stalls=True))
        running = client.start(kind, style)
        running.wait_for_messages(2)

        clock.advance(LONG)
        backend.release()

        assert running.result().error is None
        assert _slow_calls(stack) == 0


@every_client
@response_streams
def test_stream_without_messages_is_as_slow_as_its_end(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
) -> None:
    stack = new_stack(Bulkhead(8) + CircuitBreaker(slow_call_duration=1.0), clock=clock)
    client = connect(protected, stack)
    backend.plays(STALL)
    running = client.start(kind, Style.ITERATE)
    backend.wait_until_stalled()

    clock.advance(LONG)
    backend.release()

    assert running.result().error is None
    assert _slow_calls(stack) == 1


@every_client
@response_streams
def test_concurrency_limit_takes_a_stream_by_its_first_message_and_holds_its_place_to_the_end(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
) -> None:
    stack = new_stack(ConcurrencyLimit(algorithm="aimd", window_calls=1), clock=clock)
    client = connect(protected, stack)
    limit = stack.policy("concurrency_limit")
    latencies = []
    # With the first answer the first window begins.
    plays = [Play(messages=1, stalls=True)] * 2 + [STALL]
    for number, play in enumerate(plays, 1):
        backend.plays(play)
        running = client.start(kind, Style.ITERATE)
        if play is not STALL:
            running.wait_for_messages(1)
        backend.wait_until_stalled(number)
        assert limit.state(clock.now())["in_flight"] == 1

        clock.advance(LONG)
        backend.release()
        assert running.result().error is None
        leaks.assert_nothing_held([stack])
        latencies.append(limit.state(clock.now())["latency"])

    assert latencies == pytest.approx([0.0, 0.0, LONG])


@every_client
@response_streams
def test_bulkhead_tells_when_to_come_back_by_how_long_streams_last(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
) -> None:
    stack = new_stack(Bulkhead(1), clock=clock)
    client = connect(protected, stack)
    backend.plays(Play(messages=1, stalls=True), STALL)
    first = client.start(kind, Style.ITERATE)
    backend.wait_until_stalled()
    clock.advance(LONG)
    backend.release()
    assert first.result().error is None
    leaks.assert_nothing_held([stack])
    second = client.start(kind, Style.ITERATE)
    backend.wait_until_stalled(2)

    refused = client.start(kind, Style.ITERATE).result()

    assert isinstance(refused.error, Refused)
    assert refused.error.retry_after == pytest.approx(LONG)
    backend.release()
    assert second.result().error is None


@every_client
def test_stream_that_began_before_slow_calls_counted_is_not_slow(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
) -> None:
    stack = new_stack(CircuitBreaker(), clock=clock)
    client = connect(protected, stack)
    backend.plays(Play(messages=1, stalls=True))
    running = client.start(RpcKind.UNARY_STREAM, Style.ITERATE)
    running.wait_for_messages(1)

    stack.parameters["circuit_breaker/slow_call_duration"].set(1.0)
    clock.advance(LONG)
    backend.release()

    assert running.result().error is None
    assert _slow_calls(stack) == 0
