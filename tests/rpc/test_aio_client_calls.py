"""Asyncio call objects: asked again, by several, before and after the end, as on a bare channel."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .aio_sides import (
    HEADERS,
    QUESTIONS,
    STACKS,
    TRAILERS,
    Side,
    both,
    every_kind,
    every_stack,
    every_way,
    messages,
    outcome,
    pairs,
    status,
    unary_responses,
    use,
)
from .backend import ANSWER, STALL, Play, RpcKind, expected, fail
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

NOT_FOUND = fail(StatusCode.NOT_FOUND, "so")


@unary_responses
@every_way
@every_stack
@pytest.mark.parametrize("play", [ANSWER, NOT_FOUND], ids=["answer", "error"])
async def test_call_that_is_awaited_again_says_the_same_again(
    kind: RpcKind, way: str, policies: str, play: Play, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(play)
        call = side.start(kind)
        first, second = await outcome(call), await outcome(call)
        return first, second, isinstance(first, bytes) and first is second, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] == theirs[1]
    assert theirs[2] is (play is ANSWER)


@unary_responses
@every_way
@every_stack
@pytest.mark.parametrize("ending", ["answer", "one task is cancelled", "call is cancelled"])
async def test_call_that_two_tasks_await_ends_for_both(
    kind: RpcKind, way: str, policies: str, ending: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind)
        tasks = [asyncio.ensure_future(outcome(call)) for _ in range(2)]
        await side.stalled()
        if ending == "answer":
            side.backend.release()
        elif ending == "call is cancelled":
            call.cancel()
        else:
            tasks[0].cancel()
        return await asyncio.gather(*tasks), await status(call), await outcome(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][0] == theirs[0][1] == theirs[2]
    assert (theirs[2] == expected(kind, REQUESTS)[0]) is (ending == "answer")


@unary_responses
@every_way
@every_stack
async def test_call_that_asyncio_stops_waiting_for_is_cancelled(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind)
        waiting = asyncio.ensure_future(call)
        await side.stalled()
        waited = await outcome(asyncio.wait_for(waiting, 0))
        await side.gone()
        return waited, await status(call), await outcome(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1][0] is StatusCode.CANCELLED


@unary_responses
@every_way
@every_stack
async def test_call_that_is_shielded_goes_on_when_nobody_waits(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        task = asyncio.ensure_future(side.start(kind))
        await side.stalled()
        waiting = asyncio.ensure_future(outcome(asyncio.shield(task)))
        await asyncio.sleep(0)
        waiting.cancel()
        waited = await waiting
        side.backend.release()
        return waited, await task

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs == ((asyncio.CancelledError, ""), expected(kind, REQUESTS)[0])


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
async def test_questions_that_wait_for_the_end_are_answered_alike(
    kind: RpcKind, way: str, policies: str, code: StatusCode, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(
            Play(initial=HEADERS, trailing=TRAILERS, stalls=True, code=code, messages=0)
        )
        call = side.start(kind)
        asked = [asyncio.ensure_future(use(call, question)) for question in QUESTIONS]
        await side.release_with_headers(call, kind)
        taken = await outcome(messages(call, kind))
        answers = [await question for question in asked]
        text = side.anonymous(str(await call.debug_error_string()))
        return taken, answers, text, call.done(), call.cancelled()

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1][0] is code


@every_kind
@every_way
@every_stack
async def test_error_says_the_same_and_survives_copy_and_pickle(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        code = StatusCode.NOT_FOUND
        play = Play(initial=HEADERS, trailing=TRAILERS, stalls=True, code=code, details="so")
        side.backend.plays(play)
        call = side.start(kind)
        await side.release_with_headers(call, kind)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await messages(call, kind)
        error = caught.value
        twins = (error, copy.copy(error), pickle.loads(pickle.dumps(error)))
        return [
            (
                type(twin),
                twin.code(),
                twin.details(),
                pairs(twin.initial_metadata()),
                pairs(twin.trailing_metadata()),
                type(twin.trailing_metadata()),
                side.anonymous(f"{twin!r} {twin} {twin.debug_error_string()}"),
            )
            for twin in twins
        ]

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] == theirs[1] == theirs[2]


@every_kind
@every_way
@every_stack
async def test_call_object_is_of_the_class_that_grpc_documents(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    classes = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")

    async def tell(side: Side) -> Any:
        method, call = getattr(side.channel, kind)(kind.path), side.start(kind)
        await messages(call, kind)
        return (
            [isinstance(call, getattr(grpc.aio, f"{name}Call")) for name in classes],
            [isinstance(method, getattr(grpc.aio, f"{name}MultiCallable")) for name in classes],
            isinstance(call, grpc.aio.RpcContext),
            len({call, call}),
        )

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert sum(theirs[0]) == sum(theirs[1]) == 1


@every_kind
@every_stack
async def test_repr_of_a_call_tells_how_it_ended(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(messages=1, stalls=True, code=StatusCode.NOT_FOUND))
        call = side.start(kind)
        await side.stalled()
        before = "NOT_FOUND" in repr(call)
        side.backend.release()
        await outcome(messages(call, kind))
        return before, "NOT_FOUND" in repr(call), "NOT_FOUND" in str(call)

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs == (False, True, True)
