"""Closing a channel or a server ends the calls under way, and those that wait to be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Retry

from . import leaks
from .backend import DOWN, STALL, Backend, RpcKind
from .clients import PROTECTED, Style, SyncClient
from .servers import PROTECTED as SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import Client, LoopThread

SLOW: dict[str, Any] = {"initial_backoff": 30.0, "max_backoff": 30.0, "jitter": "none"}
every_client = pytest.mark.parametrize("protected", PROTECTED)
wrapped = pytest.mark.parametrize("protected", ["sync-wrap", "aio-wrap"])
every_kind = pytest.mark.parametrize("kind", RpcKind)
stacks = pytest.mark.parametrize(
    "policies",
    [
        pytest.param(lambda: Bulkhead(8) + CircuitBreaker(), id="one-attempt"),
        pytest.param(lambda: Bulkhead(8) + Retry() + CircuitBreaker(), id="retry"),
    ],
)


@every_client
@every_kind
@stacks
def test_closing_the_channel_cancels_a_call(
    protected: str,
    kind: RpcKind,
    policies: Callable[[], Any],
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    client = connect(protected, stack)
    backend.plays(STALL)
    running = client.start(kind, client.styles(kind)[-1])
    backend.wait_until_stalled()

    client.close()

    assert running.result().code is StatusCode.CANCELLED
    backend.wait_until_gone()
    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@wrapped
@every_kind
def test_closing_the_channel_ends_the_wait_before_a_retry(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(**SLOW))
    client = connect(protected, stack)
    for style in client.styles(kind):
        if style is Style.READ_WRITE:
            continue
        backend.plays(DOWN)
    running = [
        client.start(kind, style) for style in client.styles(kind) if style is not Style.READ_WRITE
    ]
    leaks.eventually(
        lambda: stack.emitter.counts["retry", "RetryAttempt"] == len(running), lambda: running
    )

    client.close()

    assert [each.result().code for each in running] == [StatusCode.CANCELLED] * len(running)
    assert backend.attempts == len(running)
    leaks.assert_nothing_held([stack])


@wrapped
@every_kind
def test_closing_the_channel_ends_the_wait_in_a_queue(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(1, max_queue=1, max_wait=30.0))
    client = connect(protected, stack)
    backend.plays(STALL)
    style = client.styles(kind)[0]
    holder = client.start(kind, style)
    backend.wait_until_stalled()
    waiting = client.start(kind, style)
    leaks.eventually(lambda: leaks.held(stack).get("bulkhead/queued") == 1, str)

    client.close()

    assert holder.result().error is not None
    assert waiting.result().error is not None
    assert backend.attempts == 1


@pytest.mark.parametrize("protected", SERVERS)
@every_kind
def test_stopping_the_server_ends_a_call_and_holds_nothing(
    protected: str,
    kind: RpcKind,
    loop: LoopThread,
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    stack, backend = new_stack(Bulkhead(8) + CircuitBreaker()), Backend(STALL)
    server = SERVERS[protected](backend, stack, loop)
    opened.callback(backend.release)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))
    running = client.start(kind, client.styles(kind)[-1])
    backend.wait_until_stalled()

    server.close()

    assert running.result().code in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    backend.wait_until_ended()
    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}
