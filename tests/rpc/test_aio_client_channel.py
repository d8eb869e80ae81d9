"""Asyncio channels: their state, their end with calls under way, and where they are used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import ChannelConnectivity, StatusCode

from .aio_sides import (
    STACKS,
    Side,
    both,
    connect,
    every_kind,
    every_stack,
    every_way,
    messages,
    outcome,
    side,
    status,
    write_all,
)
from .backend import STALL, Play, RpcKind, expected
from .clients import REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

SHORT = 0.02
styles = pytest.mark.parametrize("style", [Style.ITERATE, Style.READ_WRITE])


@every_way
@every_stack
async def test_channel_tells_of_its_state_to_its_end(
    way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        channel = side.channel
        states = [channel.get_state(), channel.get_state(try_to_connect=True)]
        await channel.wait_for_state_change(ChannelConnectivity.IDLE)
        await channel.channel_ready()
        states.append(channel.get_state())
        waiting = asyncio.ensure_future(
            outcome(channel.wait_for_state_change(ChannelConnectivity.READY))
        )
        await asyncio.sleep(0)
        await channel.close()
        late = [
            (await waiting)[0] if isinstance(await waiting, tuple) else await waiting,
            (await outcome(channel.wait_for_state_change(ChannelConnectivity.READY)))[0],
            (await outcome(channel.channel_ready()))[0],
        ]
        return states, late, channel.get_state()

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][2] is ChannelConnectivity.READY
    assert theirs[2] is ChannelConnectivity.SHUTDOWN


@every_kind
@every_stack
@styles
@pytest.mark.parametrize("grace", [None, 0, SHORT])
async def test_closing_cancels_the_calls_that_are_not_over_in_time(
    kind: RpcKind,
    policies: str,
    style: Style,
    grace: float | None,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL, STALL)
        ended, waited = side.start(kind, style), side.start(kind, style)
        for call in (ended, waited):
            await write_all(call, kind, style)
        waiting = asyncio.ensure_future(outcome(messages(waited, kind, style)))
        await side.stalled(2)
        await side.channel.close(grace)
        now = ended.done(), ended.cancelled()
        return now, await waiting, await outcome(messages(ended, kind, style)), await status(ended)

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[3][0] is StatusCode.CANCELLED


@every_kind
@every_way
@every_stack
@styles
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
async def test_closing_with_grace_lets_a_call_end_in_time(
    kind: RpcKind,
    way: str,
    policies: str,
    style: Style,
    code: StatusCode,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(stalls=True, code=code, details="so"))
        call = side.start(kind, style)
        await write_all(call, kind, style)
        taking = asyncio.ensure_future(outcome(messages(call, kind, style)))
        await side.stalled()
        closing = asyncio.ensure_future(side.channel.close(60))
        await asyncio.sleep(0)
        # From now on no call starts, and the one there is may end.
        late = (await outcome(_late(side, kind)))[0]
        side.backend.release()
        await closing
        return await taking, late, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] is grpc.aio.UsageError
    assert theirs[2][0] is code


async def _late(side: Side, kind: RpcKind) -> list[bytes]:
    """Make a call on a channel that is closed."""
    return await messages(side.start(kind), kind)


@every_kind
@every_way
@every_stack
async def test_call_on_a_closed_channel_fails_alike(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        await side.channel.close()
        await side.channel.close()
        await side.channel.close(1.0)
        return await outcome(_late(side, kind)), side.backend.attempts

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][0] is grpc.aio.UsageError


@every_way
@every_stack
async def test_channel_refuses_a_negative_grace_and_stays_open(
    way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        refused = await outcome(side.channel.close(-1.0))
        return refused, await outcome(
            messages(side.start(RpcKind.UNARY_UNARY), RpcKind.UNARY_UNARY)
        )

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][0] is ValueError
    assert theirs[1] == REQUESTS[:1]


@every_kind
@every_stack
async def test_leaving_the_block_of_a_channel_ends_its_calls_and_no_others(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(STACKS[policies]())
    protections = iter((None, stack))

    async def tell(outer: Side) -> Any:
        outer.backend.plays(STALL)
        kept = outer.start(kind)
        await outer.stalled()
        calls = []

        async def leave() -> None:
            async with side("wrap", next(protections)) as inner:
                inner.backend.plays(STALL)
                calls.append(inner.start(kind))
                await inner.stalled()
                raise LookupError

        with pytest.raises(LookupError):
            await leave()
        told = await status(calls[0]), kept.done()
        outer.backend.release()
        return told, await messages(kept, kind)

    theirs, ours = await both("wrap", stack, tell)

    assert ours == theirs
    assert theirs[0][0][0] is StatusCode.CANCELLED


@every_kind
@every_way
@every_stack
async def test_channel_serves_many_tasks_at_once(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        async def one() -> Any:
            call = side.start(kind)
            return await messages(call, kind), await call.code()

        return await asyncio.gather(*(asyncio.create_task(one()) for _ in range(8)))

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs == [(expected(kind, REQUESTS), StatusCode.OK)] * 8


@every_way
@every_stack
def test_channel_can_be_made_before_its_loop_runs(
    way: str, policies: str, target: str, new_stack: Callable[..., Stack]
) -> None:
    kind, loop = RpcKind.STREAM_STREAM, asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        for stack in (None, new_stack(STACKS[policies]())):
            channel: Any = connect(way, stack, target)
            method = channel.stream_stream(kind.path)

            async def use(channel: Any = channel, method: Any = method) -> Any:
                async with channel:
                    return await messages(method(iter(REQUESTS)), kind)

            assert loop.run_until_complete(use()) == expected(kind, REQUESTS)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
