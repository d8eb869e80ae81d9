"""Time limits of asyncio calls, and waiting for a connection, as on a bare channel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .aio_sides import (
    STACKS,
    Side,
    both,
    connect,
    every_kind,
    every_stack,
    every_way,
    many,
    messages,
    outcome,
    request_streams,
    silence,
    status,
)
from .backend import PATIENCE, STALL, Backend, Play, RpcKind, expected
from .clients import REQUESTS, Style
from .handlers import plain_handlers
from .servers import LOOPBACK, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Stack

SHORT = 0.02
SOON = (("grpc.initial_reconnect_backoff_ms", 10), ("grpc.min_reconnect_backoff_ms", 10))
DEAF = Play(reads=0, messages=0, stalls=True)
"""Neither reads nor answers."""
styles = pytest.mark.parametrize("style", [Style.ITERATE, Style.READ_WRITE])
untimed = pytest.mark.parametrize("policies", ["one-attempt"])
unrepeated = pytest.mark.parametrize("policies", ["one-attempt"])
"""Stacks that do not make another attempt when there is no connection."""


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("seconds", [0, 0.0, -1, -0.5])
async def test_time_that_is_up_at_the_start_fails_the_call(
    kind: RpcKind, way: str, policies: str, seconds: float, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        # gRPC may send it all the same, and would then take an answer that comes very fast.
        side.backend.plays(DEAF)
        call = side.start_silent(kind, timeout=seconds)
        ended = await outcome(messages(call, kind))
        return ended[:2], (await status(call))[0], call.done()

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][1] is StatusCode.DEADLINE_EXCEEDED


@every_kind
@every_way
@every_stack
@styles
async def test_time_that_runs_out_fails_the_call_half_way(
    kind: RpcKind, way: str, policies: str, style: Style, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(DEAF)
        call = side.start_silent(kind, timeout=SHORT)
        ended = await outcome(messages(call, kind, style))
        return ended, await outcome(messages(call, kind, style)), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[2][0] is StatusCode.DEADLINE_EXCEEDED


@request_streams
@every_stack
async def test_nothing_is_written_when_the_time_is_up(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(DEAF)
        call = side.start(kind, Style.READ_WRITE, timeout=SHORT)
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        written = await outcome(call.write(b"x"))
        return written, await outcome(messages(call, kind, Style.READ_WRITE))

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][0] is asyncio.InvalidStateError


@request_streams
@every_stack
async def test_write_that_waits_when_the_time_is_up_raises_as_the_call_does(
    kind: RpcKind, policies: str, nowhere: int, new_stack: Callable[..., Stack]
) -> None:
    told = []
    for stack in (None, new_stack(STACKS[policies]())):
        async with connect("wrap", stack, f"{LOOPBACK}:{nowhere}") as channel:
            call = getattr(channel, kind)(kind.path)(wait_for_ready=True, timeout=SHORT)
            # A few may be taken for when there is a connection.
            written = None
            while written is None:
                written = await outcome(call.write(b"x"))
            told.append((written, await outcome(call.write(b"x"))))

    assert told[1] == told[0]
    assert told[0][0][:2] == (grpc.aio.AioRpcError, StatusCode.DEADLINE_EXCEEDED)
    assert told[0][1][0] is asyncio.InvalidStateError


@every_kind
@untimed
@pytest.mark.parametrize("seconds", [None, 30, 30.5])
async def test_call_tells_the_time_that_is_left(
    kind: RpcKind, policies: str, seconds: float | None, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(STALL)
        call = side.start(kind, timeout=seconds)
        left = [call.time_remaining()]
        await side.stalled()
        left.append(call.time_remaining())
        side.backend.release()
        await messages(call, kind)
        left.append(call.time_remaining())
        told = [None if each is None or seconds is None else 0 < each <= seconds for each in left]
        return told, sorted(left, key=str, reverse=True) == left or seconds is None

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs == ([None if seconds is None else True] * 3, True)


@every_kind
@untimed
async def test_no_time_is_left_when_it_has_run_out(
    kind: RpcKind, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(DEAF)
        call = side.start_silent(kind, timeout=SHORT)
        return await call.code(), call.time_remaining()

    theirs, ours = await both("wrap", new_stack(STACKS[policies]()), tell)

    assert ours == theirs == (StatusCode.DEADLINE_EXCEEDED, 0)


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((LOOPBACK, 0))
        yield reserved.getsockname()[1]


def _start(channel: grpc.aio.Channel, kind: RpcKind, **options: Any) -> Any:
    method = getattr(channel, kind)(kind.path)
    return method(many() if kind.streams_requests else REQUESTS[0], **options)


async def _unserved(channel: grpc.aio.Channel, kind: RpcKind, waits: bool, **options: Any) -> Any:
    """Tell how a call ends that nobody serves; it sends nothing, where gRPC fails by chance."""
    over, method = asyncio.Event(), getattr(channel, kind)(kind.path)
    call = method(silence(over) if kind.streams_requests else REQUESTS[0], **options)
    ended = await outcome(call.wait_for_connection() if waits else messages(call, kind))
    over.set()
    return ended[:2], await call.code(), call.done()


@every_kind
@every_way
@unrepeated
@pytest.mark.parametrize("patient", [None, False, True])
async def test_call_waits_for_a_connection_only_when_told_to(
    kind: RpcKind,
    way: str,
    policies: str,
    patient: bool | None,
    nowhere: int,
    new_stack: Callable[..., Stack],
) -> None:
    told = []
    for stack in (None, new_stack(STACKS[policies]())):
        async with connect(way, stack, f"{LOOPBACK}:{nowhere}") as channel:
            limit = SHORT if patient else PATIENCE
            options = {"wait_for_ready": patient, "timeout": limit}
            told.append(await _unserved(channel, kind, waits=False, **options))

    assert told[1] == told[0]
    code = StatusCode.DEADLINE_EXCEEDED if patient else StatusCode.UNAVAILABLE
    assert told[0] == ((grpc.aio.AioRpcError, code), code, True)


@every_kind
@every_way
@every_stack
async def test_patient_call_is_served_by_a_server_that_comes_late(
    kind: RpcKind, way: str, policies: str, nowhere: int, new_stack: Callable[..., Stack]
) -> None:
    backend, stack = Backend(), new_stack(STACKS[policies]())
    async with connect(way, stack, f"{LOOPBACK}:{nowhere}", options=SOON) as channel:
        call = _start(channel, kind, wait_for_ready=True, timeout=PATIENCE)
        state = grpc.ChannelConnectivity.IDLE
        while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        assert not call.done()

        server = SyncServer(plain_handlers(backend), port=nowhere)
        with contextlib.ExitStack() as at_end:
            at_end.callback(server.close)
            await asyncio.wait_for(channel.channel_ready(), PATIENCE)
            assert await messages(call, kind) == expected(kind, REQUESTS)


@every_kind
@every_way
@unrepeated
@pytest.mark.parametrize("listening", [True, False])
async def test_waiting_for_the_connection_of_a_call_tells_whether_there_is_one(
    kind: RpcKind,
    way: str,
    policies: str,
    listening: bool,
    nowhere: int,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind)
        return await call.wait_for_connection(), await messages(call, kind), await status(call)

    async def tell_nowhere(stack: Stack | None) -> Any:
        async with connect(way, stack, f"{LOOPBACK}:{nowhere}") as channel:
            return await _unserved(channel, kind, waits=True, timeout=PATIENCE)

    stack = new_stack(STACKS[policies]())
    if listening:
        theirs, ours = await both(way, stack, tell)
        assert theirs[1] == expected(kind, REQUESTS)
    else:
        theirs, ours = await tell_nowhere(None), await tell_nowhere(stack)
        assert theirs[1] is StatusCode.UNAVAILABLE

    assert ours == theirs
