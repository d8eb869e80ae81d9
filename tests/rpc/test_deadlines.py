"""One deadline over a call, over its attempts, and over the calls made while serving it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, Retry, Timeout, current_call
from ninelives_grpc.testing import MemorySink

from .backend import ANSWER, DOWN, STALL, Backend, RpcKind, expected, fail
from .clients import PROTECTED, REQUESTS, Style, SyncClient
from .relay import relay
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import Client, LoopThread

UNARY = (RpcKind.UNARY_UNARY, Style.FUTURE)
COARSE = 0.2
"""Seconds; gRPC rounds a timeout up when it sends it."""

every_client = pytest.mark.parametrize("protected", PROTECTED)
every_kind = pytest.mark.parametrize("kind", RpcKind)


@every_client
@every_kind
def test_attempt_that_takes_too_long_is_repeated_while_the_call_has_time(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Timeout(30.0) + Retry(3, initial_backoff=0.0) + Timeout(0.2))
    client = connect(protected, stack)
    backend.plays(STALL, STALL, ANSWER)

    for style in client.styles(kind)[-1:]:
        running = client.start(kind, style).result()

        assert running.error is None
        assert running.messages == expected(kind, REQUESTS)
    assert backend.attempts == 3
    assert stack.policy("timeout_2").state(0.0)["occurred"] == 2
    backend.wait_until_gone(2)


@every_client
def test_caller_s_deadline_covers_the_attempts_and_the_waits(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    sink = MemorySink()
    retry = Retry(5, initial_backoff=0.05, multiplier=1.0, jitter="none")
    client = connect(protected, new_stack(retry, sink=sink))
    backend.plays(DOWN, DOWN, STALL)

    running = client.start(*UNARY, timeout=0.5).result()

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    left = [visit.remaining for visit in backend.visits]
    assert left[0] > left[1] > left[2]
    assert left[2] < 0.5 - 2 * 0.05 + COARSE


@every_client
def test_wait_that_would_outlast_the_deadline_is_not_begun(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(
        protected, new_stack(Retry(initial_backoff=30.0, max_backoff=30.0, jitter="none"))
    )
    backend.plays(DOWN)
    began = time.monotonic()

    running = client.start(*UNARY, timeout=10.0).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "down")
    assert time.monotonic() - began < 5.0


@every_client
def test_pushback_beyond_the_deadline_is_not_waited_for(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry()))
    backend.plays(fail(StatusCode.UNAVAILABLE, "later", pushback=20_000))

    running = client.start(*UNARY, timeout=10.0).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "later")
    assert backend.attempts == 1


@every_client
def test_nobody_waits_in_a_queue_longer_than_a_timeout_around_it(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Timeout(0.1) + Bulkhead(1, max_queue=1, max_wait=30.0))
    client = connect(protected, stack)
    backend.plays(STALL, STALL)
    holder = client.start(*UNARY)
    backend.wait_until_stalled()
    began = time.monotonic()

    waiting = client.start(*UNARY).result()

    assert time.monotonic() - began < 5.0
    assert waiting.code in {StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED}
    holder.result()


every_server = pytest.mark.parametrize(
    "protected", ["sync", "aio", "aio-reader-writer", "aio-plain"]
)
relayed_kinds = pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.UNARY_STREAM])


@every_server
@relayed_kinds
def test_calls_made_by_a_handler_inherit_the_deadline_of_the_call_it_serves(
    protected: str,
    kind: RpcKind,
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    calls = new_stack(Timeout(60.0, margin=0.5) + Retry())
    server = relay(protected, target, new_stack(Bulkhead(8)), calls, loop, opened)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    running = client.start(kind, SyncClient.styles(kind)[-1], timeout=10.0).result()

    assert running.error is None
    left = [visit.remaining for visit in backend.visits]
    assert all(9.0 < remaining < 9.5 + COARSE for remaining in left)


@every_server
@relayed_kinds
def test_time_limit_of_a_server_is_inherited_too(
    protected: str,
    kind: RpcKind,
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    server = relay(
        protected, target, new_stack(Timeout(10.0)), new_stack(Timeout(60.0)), loop, opened
    )
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    client.start(kind, SyncClient.styles(kind)[-1]).result()

    assert all(9.0 < visit.remaining < 10.0 + COARSE for visit in backend.visits)


@every_server
@relayed_kinds
def test_shield_lets_calls_run_on_after_the_deadline_of_the_served_call(
    protected: str,
    kind: RpcKind,
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    server = relay(
        protected, target, new_stack(Bulkhead(8)), new_stack(Timeout(60.0)), loop, opened
    )
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    client.start(kind, SyncClient.styles(kind)[-1], [b"shielded"], timeout=10.0).result()

    assert all(visit.remaining > 50.0 for visit in backend.visits)


@every_server
def test_current_call_tells_a_handler_what_it_serves_and_how_long_it_has(
    protected: str,
    new_stack: Callable[..., Stack],
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    seen: list[Any] = []

    def plain(request: bytes, _: Any) -> bytes:
        served = current_call()
        seen.append((served.method.name, served.time_remaining(), served.cancelled))
        served.check()
        return request

    async def coroutine(request: bytes, context: Any) -> bytes:
        return plain(request, context)

    threaded = protected in {"sync", "aio-plain"}
    handler = grpc.unary_unary_rpc_method_handler(plain if threaded else coroutine)
    service = grpc.method_handlers_generic_handler("test.Scripted", {"unary_unary": handler})
    stack = new_stack(Bulkhead(8))
    server = (
        SyncServer(service, protection=stack)
        if protected == "sync"
        else AioServer(loop, service, protection=stack)
    )
    opened.callback(server.close)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    client.start(*UNARY, timeout=10.0).result()
    client.start(*UNARY).result()

    (name, remaining, cancelled), (_, unlimited, _) = seen
    assert name == "test.Scripted/unary_unary"
    assert 9.0 < remaining < 10.0 + COARSE
    assert not cancelled
    assert unlimited is None
    assert current_call() is None
