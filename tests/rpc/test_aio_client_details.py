"""A protected asyncio channel behaves as a bare one in what is rarely looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .aio_sides import (
    STACKS,
    Side,
    both,
    every_kind,
    every_stack,
    every_way,
    messages,
    outcome,
    request_streams,
    response_streams,
    status,
)
from .backend import STALL, Play, RpcKind, expected, fail
from .clients import REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ninelives_grpc import Stack

DEAF = Play(reads=0, messages=0, stalls=True)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("question", ["code", "details", "trailing_metadata", "debug_error_string"])
async def test_task_that_only_asks_how_a_call_ends_can_be_cancelled_without_it(
    kind: RpcKind, way: str, policies: str, question: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind)
        asking = asyncio.ensure_future(getattr(call, question)())
        await side.stalled()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        alive = call.done(), call.cancelled()
        side.backend.release()
        return alive, await outcome(messages(call, kind)), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] == (False, False)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("ending", ["answer", "error", "cancel"])
async def test_callbacks_have_been_called_when_the_end_is_known(
    kind: RpcKind, way: str, policies: str, ending: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        failed = fail(StatusCode.NOT_FOUND)
        side.backend.plays({"answer": Play(messages=0), "error": failed, "cancel": STALL}[ending])
        call, called = side.start(kind), []
        call.add_done_callback(called.append)
        if ending == "cancel":
            await side.stalled()
            call.cancel()
        else:
            await call.code()
        return [each is call for each in called]

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs == [True]


@every_kind
@every_way
@every_stack
async def test_metadata_of_a_cancelled_call_is_of_the_class_of_metadata(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind)
        await side.stalled()
        call.cancel()
        return type(await call.trailing_metadata()), type(await call.initial_metadata())

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs == (grpc.aio.Metadata,) * 2


@response_streams
@every_way
@every_stack
async def test_empty_stream_is_over_when_it_was_iterated(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(messages=0))
        call = side.start(kind)
        return await messages(call, kind), call.done(), call.cancel()

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs == ([], True, False)


@response_streams
@every_stack
async def test_call_that_is_read_is_over_when_its_channel_is_closed(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind)
        reading = asyncio.ensure_future(outcome(call.read()))
        await side.stalled()
        await side.channel.close()
        return call.done(), call.cancelled(), await reading

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[:2] == (True, True)


@request_streams
@every_stack
@pytest.mark.parametrize("by", ["call", "task"])
async def test_cancelling_a_write_that_waits_cancels_the_call(
    kind: RpcKind, policies: str, by: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(DEAF)
        call = side.start(kind, Style.READ_WRITE)

        async def write() -> None:
            while True:
                # More than fits any window.
                await call.write(b"x" * 30_000_000)

        await call.wait_for_connection()
        writing = asyncio.ensure_future(outcome(write()))
        await side.stalled()
        (call if by == "call" else writing).cancel()
        # Perhaps it was between two.
        given_up = (await writing)[0] in {asyncio.CancelledError, asyncio.InvalidStateError}
        ended = call.done(), await outcome(messages(call, kind, Style.READ_WRITE))
        call.cancel()
        return given_up, *ended

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[:2] == (True, True)


@request_streams
@every_way
@every_stack
async def test_iterator_that_is_cancelled_cancels_the_call_and_does_not_end_its_requests(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        async def requests() -> AsyncIterator[bytes]:
            yield b"a"
            # As when it awaits a task that somebody cancels.
            raise asyncio.CancelledError

        call = side.start(kind, Style.ITERATE, requests())
        return await outcome(messages(call, kind)), (await status(call))[0]

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] is StatusCode.CANCELLED


@every_kind
@every_way
@every_stack
async def test_every_argument_can_be_given_by_the_name_that_grpc_has_for_it(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        method = getattr(side.channel, kind)(
            method=kind.path, request_serializer=None, response_deserializer=None
        )
        named: Any = {"request": REQUESTS[0]}
        if kind.streams_requests:
            named = {"request_iterator": iter(REQUESTS)}
        options: Any = {"timeout": 20, "metadata": (("tenant", "a"),), "credentials": None}
        call = method(**named, **options, wait_for_ready=None, compression=None)
        return await messages(call, kind)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs == expected(kind, REQUESTS)
