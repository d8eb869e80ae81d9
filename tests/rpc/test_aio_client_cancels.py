"""Cancelling asyncio calls, by the call or by the task, at any point, as on a bare channel."""

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
    request_streams,
    response_streams,
    status,
    use,
    uses,
    write_all,
)
from .backend import Play, RpcKind, fail
from .clients import Style

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ninelives_grpc import Stack

DEAF = Play(reads=0, messages=0, stalls=True)
"""Neither reads nor answers."""
styles = pytest.mark.parametrize("style", [Style.ITERATE, Style.READ_WRITE])
by = pytest.mark.parametrize("by", ["call", "task"])


@every_kind
@every_way
@every_stack
@styles
@pytest.mark.parametrize("when", ["at once", "at the server"])
async def test_cancelled_call_answers_whatever_it_is_used_for(
    kind: RpcKind,
    way: str,
    policies: str,
    style: Style,
    when: str,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        told = {}
        names = [*uses(kind, style)]
        if kind.streams_requests:
            # On a bare channel this waits for ever, if nothing was sent yet.
            names.remove("wait_for_connection")
        for number, name in enumerate(names):
            side.backend.plays(DEAF)
            call = side.start(kind, style)
            if when == "at the server":
                await side.stalled(number + 1)
            cancelled = call.cancel(), call.cancel(), call.done(), call.cancelled()
            told[name] = cancelled, await use(call, name), await status(call)
        return told

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert {told[2][0] for told in theirs.values()} == {StatusCode.CANCELLED}


@every_kind
@every_way
@every_stack
@styles
async def test_call_that_is_over_can_not_be_cancelled(
    kind: RpcKind, way: str, policies: str, style: Style, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind, style)
        await write_all(call, kind, style)
        await messages(call, kind, style)
        assert await call.code() is StatusCode.OK
        told: dict[str, Any] = {"cancel": (call.cancel(), call.cancel())}
        for name in uses(kind, style):
            told[name] = await use(call, name)
        return told, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0]["cancel"] == (False, False)


def _waiting(kind: RpcKind, style: Style, by: str) -> list[str]:
    """Return the uses of a call that wait for the server, and end the call when given up."""
    asked = {"code", "details", "trailing_metadata"} if by == "call" else set()
    asked |= {"await", "iterate", "read"}
    return [name for name in uses(kind, style) if name in asked]


@every_kind
@every_way
@every_stack
@styles
@by
async def test_cancelling_ends_what_waits_for_the_server(
    kind: RpcKind, way: str, policies: str, style: Style, by: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        told = {}
        for number, name in enumerate(_waiting(kind, style, by)):
            side.backend.plays(DEAF)
            call = side.start(kind, style)
            task = asyncio.ensure_future(use(call, name))
            await side.stalled(number + 1)
            assert not task.done()
            cancelled = (call if by == "call" else task).cancel()
            told[name] = cancelled, await task, call.done(), await status(call)
        return told

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert all(told[0] for told in theirs.values())


@response_streams
@every_way
@every_stack
@styles
@by
async def test_stream_is_cancelled_half_way(
    kind: RpcKind, way: str, policies: str, style: Style, by: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(messages=2, stalls=True))
        call = side.start(kind)
        take = call.read if style is Style.READ_WRITE else aiter(call).__anext__
        taken = [await take(), await take()]
        await side.stalled()
        task = asyncio.ensure_future(outcome(take()))
        await asyncio.sleep(0)
        (call if by == "call" else task).cancel()
        ended = [await task, await outcome(take()), await outcome(take())]
        await side.gone()
        return taken, ended, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1][0] == (asyncio.CancelledError, "")
    assert theirs[2][0] is StatusCode.CANCELLED


@request_streams
@every_way
@every_stack
async def test_call_is_cancelled_after_its_requests(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(messages=0, stalls=True))
        call = side.start(kind, Style.READ_WRITE)
        await write_all(call, kind)
        await side.stalled()
        cancelled = call.cancel(), call.done(), call.cancelled()
        ended = await outcome(messages(call, kind, Style.READ_WRITE))
        late = await outcome(call.write(b"x")), await outcome(call.done_writing())
        return cancelled, ended, late, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] == (True, True, True)


@request_streams
@every_way
@every_stack
async def test_generator_of_requests_is_told_when_the_call_is_cancelled(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        told, waiting = asyncio.get_running_loop().create_future(), asyncio.Event()

        async def requests() -> AsyncIterator[bytes]:
            yield b"a"
            waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                told.set_result(type(error))
                raise

        side.backend.plays(Play(reads=1, messages=0, stalls=True))
        call = side.start(kind, Style.ITERATE, requests())
        await waiting.wait()
        await side.stalled()
        call.cancel()
        return await outcome(messages(call, kind)), await told, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] is asyncio.CancelledError


@every_kind
@every_way
@every_stack
async def test_cancelling_by_the_server_is_an_error_and_not_a_cancellation(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(fail(StatusCode.CANCELLED, "enough"))
        call = side.start(kind)
        ended = await outcome(messages(call, kind))
        return ended, await outcome(messages(call, kind)), call.cancel(), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][1:3] == (StatusCode.CANCELLED, "enough")


@every_kind
@every_way
@every_stack
async def test_cancel_takes_no_message(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind)
        with pytest.raises(TypeError):
            call.cancel("why")
        return await messages(call, kind), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1][0] is StatusCode.OK
