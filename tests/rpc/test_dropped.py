"""Calls that the application has let go of are cancelled, and hold nothing any more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc.experimental import ChannelOptions

from ninelives_grpc import Bulkhead, Retry, aio, wrap_channel

from . import idle, leaks
from .backend import ANSWER, DOWN, PATIENCE, STALL, Backend, Play, RpcKind
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

SLOW: dict[str, Any] = {"initial_backoff": 30.0, "max_backoff": 30.0, "jitter": "none"}
SINGLE_THREADED = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
every_kind = pytest.mark.parametrize("kind", RpcKind)
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
stacks = idle.stacks()
half_way = pytest.mark.parametrize("messages", [0, 2], ids=["before", "half-way"])


def _start(channel: grpc.Channel, kind: RpcKind) -> Any:
    method = getattr(channel, kind)(kind.path)
    request = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]
    return method(request) if kind.streams_responses else method.future(request)


async def _requests() -> AsyncIterator[bytes]:
    for request in REQUESTS:
        yield request


def _start_aio(channel: grpc.aio.Channel, kind: RpcKind) -> Any:
    method = getattr(channel, kind)(kind.path)
    return method(_requests() if kind.streams_requests else REQUESTS[0])


@every_kind
@half_way
def test_call_dropped_on_a_bare_channel_is_cancelled_too(
    kind: RpcKind, messages: int, target: str, opened: ExitStack, backend: Backend
) -> None:
    channel = opened.enter_context(grpc.insecure_channel(target))
    backend.plays(Play(messages=messages, stalls=True))
    call = _start(channel, kind)
    if messages and kind.streams_responses:
        next(call)
    backend.wait_until_stalled()

    del call

    backend.wait_until_gone()


@every_kind
@stacks
def test_dropped_sync_call_is_cancelled(
    kind: RpcKind,
    policies: Callable[[], Any],
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    channel = wrapped(stack)
    backend.plays(STALL)
    call = _start(channel, kind)
    backend.wait_until_stalled()

    del call

    backend.wait_until_gone()
    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@response_streams
@stacks
def test_dropped_sync_stream_is_cancelled_half_way(
    kind: RpcKind,
    policies: Callable[[], Any],
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    channel = wrapped(stack)
    backend.plays(Play(messages=2, stalls=True))
    call = _start(channel, kind)
    next(call)

    del call

    backend.wait_until_gone()
    leaks.assert_nothing_held([stack])


@stacks
@half_way
def test_dropped_single_threaded_stream_is_cancelled(
    policies: Callable[[], Any],
    messages: int,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    channel = wrapped(stack, options=SINGLE_THREADED)
    backend.plays(Play(messages=2, stalls=True))
    call = _start(channel, RpcKind.UNARY_STREAM)
    for _ in range(messages):
        next(call)
    backend.wait_until_stalled()

    del call

    backend.wait_until_gone()
    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@stacks
def test_single_threaded_stream_is_counted_when_it_is_read_to_its_end(
    policies: Callable[[], Any],
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(policies())
    channel = wrapped(stack, options=SINGLE_THREADED)

    messages = list(_start(channel, RpcKind.UNARY_STREAM))

    assert len(messages) == 3
    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("OK", "success"): 1}


def test_single_threaded_stream_is_repeated(
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(initial_backoff=0.001))
    channel = wrapped(stack, options=SINGLE_THREADED)
    backend.plays(DOWN, DOWN, ANSWER)

    messages = list(_start(channel, RpcKind.UNARY_STREAM))

    assert len(messages) == 3
    assert backend.attempts == 3


@every_kind
def test_sync_call_dropped_between_two_attempts_is_not_repeated(
    kind: RpcKind,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(**SLOW))
    channel = wrapped(stack)
    backend.plays(DOWN)
    call = _start(channel, kind)
    leaks.eventually(lambda: stack.emitter.counts["retry", "RetryAttempt"], str)

    del call

    leaks.assert_nothing_held([stack])
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}
    assert backend.attempts == 1


@every_kind
def test_sync_call_dropped_in_a_queue_leaves_it(
    kind: RpcKind,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(Bulkhead(1, max_queue=1, max_wait=30.0))
    channel = wrapped(stack)
    backend.plays(STALL)
    holder = _start(channel, kind)
    backend.wait_until_stalled()
    call = _start(channel, kind)
    assert leaks.held(stack)["bulkhead/queued"] == 1

    del call

    leaks.eventually(lambda: "bulkhead/queued" not in leaks.held(stack), lambda: leaks.held(stack))
    del holder


@dataclass(eq=False)
class Message:
    """What can be asked whether it is still there."""

    content: bytes

    def __bytes__(self) -> bytes:
        return self.content


@every_kind
@stacks
def test_ended_sync_call_keeps_neither_request_nor_answer_alive(
    kind: RpcKind,
    policies: Callable[[], Any],
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
) -> None:
    channel = wrapped(new_stack(policies()))
    method = getattr(channel, kind)(kind.path, bytes, Message)
    request = Message(b"a")
    call = (method if kind.streams_responses else method.future)(
        iter((request,)) if kind.streams_requests else request
    )
    answers = list(call) if kind.streams_responses else [call.result()]
    seen = [weakref.ref(message) for message in (request, *answers)]

    del call, request, answers

    leaks.eventually(lambda: not any(reference() for reference in seen), str)


@response_streams
@stacks
@half_way
async def test_dropped_asyncio_stream_is_cancelled(
    kind: RpcKind,
    policies: Callable[[], Any],
    messages: int,
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    # More than on a bare channel: gRPC 1.85 itself refers to its call, and lets it run to its end.
    stack = new_stack(policies())
    backend.plays(Play(messages=messages, stalls=True))
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = _start_aio(channel, kind)
        for _ in range(messages):
            await call.read()
        await asyncio.to_thread(backend.wait_until_stalled)

        del call

        await asyncio.to_thread(backend.wait_until_gone)
        await asyncio.to_thread(leaks.assert_nothing_held, [stack])
        await asyncio.to_thread(leaks.eventually, lambda: leaks.counted(stack), str)
        assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@response_streams
@stacks
async def test_asyncio_stream_whose_loop_is_left_is_cancelled(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    backend.plays(Play(messages=3, stalls=True))
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        async for _ in _start_aio(channel, kind):
            break

        await asyncio.to_thread(backend.wait_until_gone)
        await asyncio.to_thread(leaks.assert_nothing_held, [stack])


class PassingOn(grpc.aio.UnaryStreamClientInterceptor, grpc.aio.StreamStreamClientInterceptor):
    """An interceptor that does nothing; gRPC files it under the first of its classes."""

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)

    intercept_stream_stream = intercept_unary_stream


async def test_dropped_asyncio_stream_fares_behind_our_interceptors_as_behind_any(
    target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    # gRPC itself may refer to the calls of a channel with interceptors until they end.
    stack = new_stack(Bulkhead(8))

    async def kept(number: int, *interceptors: grpc.aio.ClientInterceptor) -> bool:
        backend.plays(STALL)
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            call = _start_aio(channel, RpcKind.UNARY_STREAM)
            await asyncio.to_thread(backend.wait_until_stalled, number)
            reference = weakref.ref(call)

            del call
            leaks.collect()

            alive = reference() is not None
            backend.release()
            await asyncio.to_thread(backend.wait_until_ended, number)
        return alive

    assert await kept(1, *aio.client_interceptors(stack)) == await kept(2, PassingOn())
    await asyncio.to_thread(leaks.assert_nothing_held, [stack])


@pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.STREAM_UNARY])
@stacks
async def test_asyncio_call_with_one_response_runs_on_when_it_is_dropped_as_on_a_bare_channel(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    backend.plays(STALL)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = _start_aio(channel, kind)
        await asyncio.to_thread(backend.wait_until_stalled)

        del call
        leaks.collect()
        backend.release()

        await asyncio.to_thread(leaks.eventually, lambda: leaks.counted(stack), str)
        assert leaks.results(stack) == {("OK", "success"): 1}


LEFT = """
import sys
import grpc
from ninelives_grpc import Retry, Stack, wrap_channel

channel = wrap_channel(grpc.insecure_channel(sys.argv[1]), Stack("left", Retry()))
stream = channel.unary_stream(sys.argv[2])(b"a")
print("left")
"""


def test_a_program_ends_that_leaves_a_stream_unread(target: str, backend: Backend) -> None:
    backend.plays(STALL)

    ended = subprocess.run(
        [sys.executable, "-c", LEFT, target, RpcKind.UNARY_STREAM.path],
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE,
    )

    assert ended.stdout == "left\n"
    assert "ninelives" not in ended.stderr
