"""A protected asyncio channel behaves as a bare one does: what a caller sees is the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import aio, wrap_channel

from . import idle
from .backend import ANSWER, STALL, Backend, Play, RpcKind, expected
from .clients import REQUESTS, Style
from .test_transparency import HEADERS, TRAILERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ninelives_grpc import Stack

every_kind = pytest.mark.parametrize("kind", RpcKind)
request_streams = pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
stacks = idle.stacks()
styles = pytest.mark.parametrize("style", [Style.ITERATE, Style.READ_WRITE])


async def _requests() -> AsyncIterator[bytes]:
    for request in REQUESTS:
        yield request


def _start(channel: grpc.aio.Channel, kind: RpcKind, style: Style, **options: Any) -> Any:
    """Start a call, and return its call object."""
    method = getattr(channel, kind)(kind.path)
    if not kind.streams_requests:
        return method(REQUESTS[0], **options)
    return method(_requests(), **options) if style is Style.ITERATE else method(**options)


async def _messages(call: Any, kind: RpcKind, style: Style) -> list[bytes]:
    if not kind.streams_responses:
        return [await call]
    if style is Style.ITERATE:
        return [message async for message in call]
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def _write(call: Any, kind: RpcKind, style: Style) -> None:
    if kind.streams_requests and style is Style.READ_WRITE:
        for request in REQUESTS:
            await call.write(request)
        await call.done_writing()


def _pairs(metadata: Any) -> list[tuple[str, Any]]:
    return [tuple(pair) for pair in metadata]


async def _outcome(work: Any) -> Any:
    """Return what comes of it, in a form that can be compared."""
    try:
        return await work
    except grpc.aio.AioRpcError as error:
        headers, trailers = error.initial_metadata(), error.trailing_metadata()
        return error.code(), error.details(), _pairs(headers), _pairs(trailers)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is compared
        return type(error), str(error)


async def _story(call: Any, kind: RpcKind, style: Style, go_on: Any, number: int) -> dict[str, Any]:
    """Use everything that the object of a stalled call has, and tell what it said."""
    told: dict[str, Any] = {}
    called: list[Any] = []
    call.add_done_callback(called.append)
    await _write(call, kind, style)
    await asyncio.to_thread(go_on, stalled=number)
    told["before"] = (call.done(), call.cancelled(), call.time_remaining() is None)
    if kind is not RpcKind.UNARY_UNARY:
        # Connection and headers of a unary call come with its end.
        told["connected"] = await call.wait_for_connection()
        told["headers"] = _pairs(await call.initial_metadata())
    go_on(call=call)
    told["messages"] = await _outcome(_messages(call, kind, style))
    told["status"] = (await call.code(), await call.details())
    told["trailers"] = _pairs(await call.trailing_metadata())
    told["headers at the end"] = _pairs(await call.initial_metadata())
    told["after"] = (call.done(), call.cancelled(), call.cancel())
    call.add_done_callback(called.append)
    told["again"] = await _outcome(_messages(call, kind, style))
    await asyncio.sleep(0)
    assert all(given is call for given in called)
    told["called"] = len(called)
    return told


async def _both(
    target: str,
    stack: Stack,
    tell: Callable[[grpc.aio.Channel], Any],
) -> list[Any]:
    """Return what is told of a bare and of a wrapped channel."""
    told = []
    for wrap in (lambda bare: bare, lambda bare: wrap_channel(bare, stack)):
        async with wrap(grpc.aio.insecure_channel(target)) as channel:
            told.append(await tell(channel))
    return told


@every_kind
@stacks
@styles
@pytest.mark.parametrize("ending", ["OK", "NOT_FOUND", "CANCELLED", "cancel"])
async def test_call_object_says_the_same_as_on_a_bare_channel(
    kind: RpcKind,
    policies: Callable[[], Any],
    style: Style,
    ending: str,
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    code = StatusCode.OK if ending == "cancel" else StatusCode[ending]

    def go_on(*, call: Any = None, stalled: int = 0) -> None:
        if stalled:
            backend.wait_until_stalled(stalled)
        elif ending == "cancel":
            call.cancel()
        else:
            backend.release()

    async def tell(channel: grpc.aio.Channel) -> Any:
        play = Play(initial=HEADERS, trailing=TRAILERS, messages=0, code=code, stalls=True)
        backend.plays(play)
        number = backend.attempts + 1
        call = _start(channel, kind, style, timeout=20)
        return await _story(call, kind, style, go_on, number)

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare
    assert bare["called"] == 2


@every_kind
@stacks
async def test_cancelling_the_task_that_waits_cancels_the_call(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    async def tell(channel: grpc.aio.Channel) -> Any:
        backend.plays(STALL)
        seen = backend.attempts + 1
        call = _start(channel, kind, Style.ITERATE)
        task = asyncio.ensure_future(_messages(call, kind, Style.ITERATE))
        await asyncio.to_thread(backend.wait_until_stalled, seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(backend.wait_until_gone, seen)
        return await call.code(), call.cancelled(), call.done()

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare == (StatusCode.CANCELLED, True, True)


@response_streams
@stacks
async def test_reading_and_iterating_may_not_be_mixed(
    kind: RpcKind, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(channel: grpc.aio.Channel) -> Any:
        read_first = _start(channel, kind, Style.ITERATE)
        first = await _outcome(read_first.read())
        read_first_then = await _outcome(_messages(read_first, kind, Style.ITERATE))
        iterated_first = _start(channel, kind, Style.ITERATE)
        second = [message async for message in iterated_first]
        return first, read_first_then, second, await _outcome(iterated_first.read())

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare
    assert bare[1][0] is grpc.aio.UsageError


@request_streams
@stacks
async def test_writing_ends_as_on_a_bare_channel(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    async def tell(channel: grpc.aio.Channel) -> Any:
        backend.plays(ANSWER)
        given = _start(channel, kind, Style.ITERATE)
        mixed = await _outcome(given.write(b"x")), await _outcome(given.done_writing())
        answers = await _messages(given, kind, Style.ITERATE)
        written = _start(channel, kind, Style.READ_WRITE)
        await _write(written, kind, Style.READ_WRITE)
        closed = await _outcome(written.write(b"x"))
        await written.done_writing()
        more = await _messages(written, kind, Style.READ_WRITE)
        late = await _outcome(written.write(b"x"))
        return mixed, answers, closed, more, late, await _outcome(written.done_writing())

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare
    assert bare[1] == bare[3] == expected(kind, REQUESTS)


@stacks
async def test_channel_tells_of_its_connection(
    policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(channel: Any) -> Any:
        idle = channel.get_state()
        channel.get_state(try_to_connect=True)
        await channel.wait_for_state_change(idle)
        await channel.channel_ready()
        return idle, channel.get_state(), channel._loop

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare
    assert bare[1] is grpc.ChannelConnectivity.READY


@every_kind
@stacks
async def test_arguments_of_a_call_are_passed_on(
    kind: RpcKind,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    token = grpc.access_token_call_credentials("secret")

    async def tell(channel: grpc.aio.Channel) -> Any:
        call = _start(channel, kind, Style.ITERATE, timeout=20, metadata=(("tenant", "a"),))
        answers = await _messages(call, kind, Style.ITERATE)
        return answers, await _outcome(with_credentials(channel))

    async def with_credentials(channel: grpc.aio.Channel) -> Any:
        # A channel without encryption refuses to send them.
        call = _start(channel, kind, Style.ITERATE, credentials=token)
        return await _messages(call, kind, Style.ITERATE)

    bare, ours = await _both(target, new_stack(policies()), tell)

    assert ours == bare
    assert bare[1][0] is grpc.aio.UsageError
    assert [visit.metadata["tenant"] for visit in backend.visits] == ["a", "a"]
    assert all(10 < visit.remaining < 21 for visit in backend.visits)


async def test_interceptors_give_call_objects_that_say_the_same_as_behind_any(
    target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    interceptors = aio.client_interceptors(new_stack(idle.CLIENT["one-attempt"]()))
    async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
        for kind in RpcKind:
            backend.plays(Play(initial=HEADERS, trailing=TRAILERS))
            call = _start(channel, kind, Style.ITERATE)

            assert await _messages(call, kind, Style.ITERATE) == expected(kind, REQUESTS)
            assert isinstance(call, grpc.aio.Call)
            assert await call.code() is StatusCode.OK
            assert set(HEADERS) <= set(_pairs(await call.initial_metadata()))
            assert _pairs(await call.trailing_metadata()) == list(TRAILERS)
