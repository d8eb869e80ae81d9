"""Response streams of asyncio calls: read, iterated, left and failing, as on a bare channel."""

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
    every_stack,
    every_way,
    messages,
    outcome,
    response_streams,
    status,
    write_all,
)
from .backend import Play, RpcKind, expected
from .clients import REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack


@response_streams
@every_way
@every_stack
async def test_end_of_a_stream_is_read_again_and_again(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind, Style.READ_WRITE)
        await write_all(call, kind)
        taken = [await call.read() for _ in range(3)]
        return taken, [await call.read() is grpc.aio.EOF for _ in range(3)], await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[:2] == (expected(kind, REQUESTS), [True] * 3)


@response_streams
@every_way
@every_stack
async def test_stream_is_iterated_on_where_a_loop_was_left(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call, taken = side.start(kind), []
        async for message in call:
            taken.append(message)
            break
        rest = await asyncio.create_task(messages(call, kind))
        return taken, rest, await messages(call, kind), call.done(), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] + theirs[1] == expected(kind, REQUESTS)
    assert theirs[2] == []


@response_streams
@every_way
@every_stack
@pytest.mark.parametrize("style", [Style.ITERATE, Style.READ_WRITE])
@pytest.mark.parametrize("count", [0, 2])
async def test_stream_that_fails_gives_its_messages_and_then_its_error(
    kind: RpcKind,
    way: str,
    policies: str,
    style: Style,
    count: int,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(messages=count, code=StatusCode.NOT_FOUND, details="so"))
        call = side.start(kind)
        take = call.read if style is Style.READ_WRITE else aiter(call).__anext__
        told = [await outcome(take()) for _ in range(count + 2)]
        return told, await outcome(messages(call, kind, style)), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][:count] == expected(kind, REQUESTS, count)
    assert theirs[0][count][1] is StatusCode.NOT_FOUND


@response_streams
@every_way
@every_stack
async def test_what_is_left_of_a_stream_can_be_cancelled(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(stalls=True))
        call = side.start(kind)
        first = await call.read()
        await side.stalled()
        cancelled = call.cancel()
        return first, cancelled, await status(call), await outcome(call.read())

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1:] == (True, theirs[2], (asyncio.CancelledError, ""))


@response_streams
@every_stack
async def test_styles_may_not_be_mixed_half_way(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(stalls=True), Play(stalls=True))
        read, iterated = side.start(kind), side.start(kind)
        first, iterator = await read.read(), aiter(iterated)
        with pytest.raises(grpc.aio.UsageError) as caught:
            aiter(read)
        early = await outcome(iterated.read())
        second = await anext(iterator), await outcome(iterated.read())
        side.backend.release()
        rest = await messages(read, kind, Style.READ_WRITE), [item async for item in iterator]
        return str(caught.value), first, early, second, rest

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[2][0] is grpc.aio.UsageError
