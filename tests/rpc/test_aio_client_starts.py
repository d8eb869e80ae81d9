"""How asyncio calls begin: before their loop runs, never, without a request, read by several."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import Bulkhead, Hedge, Timeout, wrap_channel

from . import aio_sides, idle, leaks
from .aio_sides import many, messages
from .backend import PATIENCE, STALL, Backend, RpcKind, expected
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

every_kind = pytest.mark.parametrize("kind", RpcKind)
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
queue = {"max_queue": 1, "max_wait": 60.0}


def _channels(target: str, stack: Stack) -> list[Any]:
    bare, inner = grpc.aio.insecure_channel(target), grpc.aio.insecure_channel(target)
    return [bare, wrap_channel(inner, stack)]


def _start(channel: Any, kind: RpcKind) -> Any:
    method = getattr(channel, kind)(kind.path)
    return method(many() if kind.streams_requests else REQUESTS[0])


@every_kind
@idle.stacks()
def test_a_call_is_made_before_its_loop_runs(
    kind: RpcKind, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    stack, answers = new_stack(policies()), []
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        for channel in _channels(target, stack):
            call = _start(channel, kind)
            answers.append(runner.run(messages(call, kind)))
            runner.run(channel.close())
        leaks.assert_nothing_held([stack])

    assert answers == [expected(kind, REQUESTS)] * 2


@every_kind
@idle.stacks()
async def test_a_call_whose_tasks_are_cancelled_before_they_begin_is_cancelled(
    kind: RpcKind, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(policies())
    for channel in _channels(target, stack):
        before = asyncio.all_tasks()
        call = _start(channel, kind)
        for task in asyncio.all_tasks() - before:
            task.cancel()

        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await (call.read() if kind.streams_responses else call)

        await asyncio.to_thread(leaks.assert_nothing_held, [stack])
        await channel.close()


@pytest.mark.parametrize(
    "policies",
    [
        pytest.param(lambda: Bulkhead(1, **queue), id="queue"),
        pytest.param(lambda: Hedge(3600.0, idempotent=True) + Bulkhead(1, **queue), id="hedge"),
        pytest.param(lambda: Bulkhead(1, **queue) + (Timeout(60.0) & Timeout(60.0)), id="race"),
    ],
)
async def test_a_queued_call_whose_task_is_cancelled_before_it_begins_leaves_the_queue(
    policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(policies())
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        method = channel.unary_unary(RpcKind.UNARY_UNARY.path)
        backend.plays(STALL, STALL)
        holder = method(b"a")
        await asyncio.to_thread(backend.wait_until_stalled)
        before = asyncio.all_tasks()
        call = method(b"b")
        for task in asyncio.all_tasks() - before:
            task.cancel()

        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await call
        holder.cancel()

        await asyncio.to_thread(leaks.assert_nothing_held, [stack])


@pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.UNARY_STREAM])
@idle.stacks()
async def test_a_forgotten_request_is_said_and_nothing_sent(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    said = []
    for channel in _channels(target, new_stack(policies())):
        for given in ({}, {"request_iterator": b"a"}, {"requst": b"a"}):
            with pytest.raises(TypeError) as wrong:
                getattr(channel, kind)(kind.path)(**given)
            said.append(str(wrong.value))
        await channel.close()

    assert said[3] == said[0]
    assert all("missing" in each or "unexpected" in each for each in said)
    assert backend.attempts == 0


@response_streams
@idle.stacks()
async def test_going_through_the_messages_can_be_ended(
    kind: RpcKind, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(policies())
    for channel in _channels(target, stack):
        call = _start(channel, kind)
        async with contextlib.aclosing(aiter(call)) as coming:
            async for message in coming:
                assert message == expected(kind, REQUESTS)[0]
                break
        assert not call.cancelled()
        call.cancel()
        await asyncio.to_thread(leaks.assert_nothing_held, [stack])
        await channel.close()


@idle.stacks()
async def test_two_who_read_one_stream_get_a_message_each(
    policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    # On a bare channel one of them may wait for ever.
    async with wrap_channel(grpc.aio.insecure_channel(target), new_stack(policies())) as channel:
        call = channel.unary_stream(RpcKind.UNARY_STREAM.path)(b"a")
        readers = [asyncio.ensure_future(call.read()) for _ in range(2)]
        await asyncio.wait(readers, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        call.cancel()
        ended = await asyncio.gather(*readers, return_exceptions=True)

    assert any(isinstance(each, bytes) for each in ended)
    assert not any(isinstance(each, AttributeError) for each in ended)


@idle.stacks()
async def test_a_message_of_a_wrong_type_is_refused_and_the_call_goes_on(
    policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    stories = []
    for channel in _channels(target, new_stack(policies())):
        call = channel.stream_unary(RpcKind.STREAM_UNARY.path)()
        story = [await aio_sides.outcome(call.write(each)) for each in (5, b"a")]
        await call.done_writing()
        stories.append([*story, await call])
        await channel.close()

    assert stories[1] == stories[0]
    assert stories[0][0][0] is TypeError
