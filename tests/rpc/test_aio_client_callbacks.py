"""Done callbacks of asyncio calls: each once, with the call, whatever the others do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

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
    status,
)
from .backend import ANSWER, STALL, Play, RpcKind, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

ENDINGS = {"OK": ANSWER, "NOT_FOUND": fail(StatusCode.NOT_FOUND, "so"), "cancel": STALL}
every_ending = pytest.mark.parametrize("ending", ENDINGS)


async def _end(side: Side, call: Any, kind: RpcKind, ending: str) -> Any:
    """Bring a call to its end, and return what its caller sees."""
    if ending == "cancel":
        await side.stalled()
        call.cancel()
    return await outcome(messages(call, kind))


@every_kind
@every_way
@every_stack
@every_ending
async def test_every_callback_is_called_once_with_the_call_in_order(
    kind: RpcKind, way: str, policies: str, ending: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(ENDINGS[ending])
        called: list[tuple[int, bool]] = []
        last = asyncio.get_running_loop().create_future()
        call = side.start(kind)
        for number in range(3):
            call.add_done_callback(lambda ended, n=number: called.append((n, ended is call)))
        call.add_done_callback(last.set_result)
        taken = await _end(side, call, kind, ending)
        assert await last is call
        early = tuple(called)
        call.add_done_callback(lambda ended: called.append((9, ended is call)))
        return taken, early, tuple(called)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] == ((0, True), (1, True), (2, True))
    assert theirs[2][3:] == ((9, True),)


@every_kind
@every_way
@every_stack
@every_ending
async def test_callback_finds_the_call_over(
    kind: RpcKind, way: str, policies: str, ending: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(ENDINGS[ending])
        found = asyncio.get_running_loop().create_future()
        nested = asyncio.get_running_loop().create_future()

        def ended(call: Any) -> None:
            call.add_done_callback(nested.set_result)
            found.set_result((call.done(), call.cancelled(), call.cancel()))

        call = side.start(kind)
        call.add_done_callback(ended)
        await _end(side, call, kind, ending)
        return await found, await nested is call

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs == ((True, ending == "cancel", False), True)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
async def test_callback_that_raises_takes_nothing_from_the_call(
    kind: RpcKind, way: str, policies: str, code: StatusCode, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        # What becomes of the error, gRPC decides by chance: some task of its own, or its caller.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        side.backend.plays(Play(code=code, details="so"), ANSWER)
        first = asyncio.get_running_loop().create_future()

        def bad(_: Any) -> None:
            msg = "a callback"
            raise RuntimeError(msg)

        call = side.start(kind)
        call.add_done_callback(first.set_result)
        call.add_done_callback(bad)
        await outcome(messages(call, kind))
        again = side.start(kind)
        return await first is call, await status(call), await messages(again, kind)

    stack = new_stack(STACKS[policies]())
    theirs, ours = await both(way, stack, tell)

    assert ours == theirs
    assert theirs[1][0] is code
