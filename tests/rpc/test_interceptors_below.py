"""Other interceptors below ours answer by themselves, or raise: the caller sees what it would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import aio, client_interceptors, wrap_channel

from . import aio_sides, idle, leaks
from .backend import RpcKind
from .clients import REQUESTS
from .pairs import PassingOn, requests_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

every_kind = pytest.mark.parametrize("kind", RpcKind)
unary_responses = pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.STREAM_UNARY])
every_way = pytest.mark.parametrize("way", ["wrap", "interceptor"])
errors = pytest.mark.parametrize(
    "error", [ValueError("mine"), grpc.RpcError("plain")], ids=["any", "rpc"]
)


class Raising(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Raises in place of a call."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def _fail(self, *_: Any) -> Any:
        raise self._error

    intercept_unary_unary = intercept_unary_stream = _fail  # type: ignore[assignment]
    intercept_stream_unary = intercept_stream_stream = _fail  # type: ignore[assignment]


def aio_below(kind: RpcKind, answer: Callable[[], Any]) -> Any:
    """Return an asyncio interceptor that answers in place of a call, or raises, or waits."""

    async def intercept(*_: Any) -> Any:
        given = answer()
        return await given if asyncio.iscoroutine(given) else given

    name = f"{kind.title().replace('_', '')}ClientInterceptor"
    base = getattr(grpc.aio, name)
    return type("Below", (base,), {f"intercept_{kind}": intercept})()


@unary_responses
@every_way
@idle.stacks()
@errors
def test_what_an_interceptor_raises_is_raised(
    kind: RpcKind,
    way: str,
    policies: Callable[[], Any],
    error: Exception,
    target: str,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> None:
    stories, stack = [], new_stack(policies())
    for ours in (False, True):
        channel = opened.enter_context(grpc.insecure_channel(target))
        channel = grpc.intercept_channel(channel, Raising(error))
        if way == "interceptor":
            above = client_interceptors(stack) if ours else (PassingOn(),)
            channel = grpc.intercept_channel(channel, *above)
        elif ours:
            channel = wrap_channel(channel, stack)
        call: Any = getattr(channel, kind)(kind.path)
        story: list[object] = []
        # gRPC takes such an error for a call, and what a blocking call raises is about that.
        if way == "wrap" or not isinstance(error, grpc.RpcError):
            story = [_raised(call, kind), _raised(call.with_call, kind)]
        future = call.future(requests_of(kind))
        story += [_raised(lambda _, future=future: future.result(), kind), future.code()]
        story.append(future.exception())
        stories.append([repr(each) for each in story])

    assert stories[1] == stories[0]
    leaks.assert_nothing_held([stack])
    assert stack.state().traffic.calls


@every_kind
@every_way
@idle.stacks()
@errors
async def test_what_an_asyncio_interceptor_raises_is_raised(
    kind: RpcKind,
    way: str,
    policies: Callable[[], Any],
    error: Exception,
    target: str,
    new_stack: Callable[..., Stack],
) -> None:
    def fail() -> None:
        raise error

    stories, stack = [], new_stack(policies())
    for ours in (None, stack):
        heard: list[object] = []
        async with _over(way, ours, target, aio_below(kind, fail)) as channel:
            story: list[object] = []
            try:
                call = getattr(channel, kind)(kind.path)(_requests(kind))
                call.add_done_callback(heard.append)
                story.append(await aio_sides.outcome(aio_sides.messages(call, kind)))
                story.append(call.cancelled())
                asks = (call.code, call.details, call.trailing_metadata, call.initial_metadata)
                story += [await aio_sides.outcome(ask()) for ask in asks]
            except type(error) as raised:
                story.append(repr(raised))
            await asyncio.sleep(0)
        stories.append((story, len(heard)))

    assert stories[1] == stories[0]
    await asyncio.to_thread(leaks.assert_nothing_held, [stack])


@every_kind
@every_way
@idle.stacks()
async def test_a_call_that_is_cancelled_in_an_asyncio_interceptor_tells_what_it_would(
    kind: RpcKind,
    way: str,
    policies: Callable[[], Any],
    target: str,
    new_stack: Callable[..., Stack],
) -> None:
    stories, stack = [], new_stack(policies())
    for ours in (None, stack):
        reached = asyncio.Event()

        async def wait_for_ever(reached: asyncio.Event = reached) -> None:
            reached.set()
            await asyncio.Event().wait()

        async with _over(way, ours, target, aio_below(kind, wait_for_ever)) as channel:
            call = getattr(channel, kind)(kind.path)(_requests(kind))
            await reached.wait()
            story = [call.cancel(), await aio_sides.outcome(aio_sides.messages(call, kind))]
            story += [call.done(), call.cancelled()]
            asks = (call.code, call.details, call.trailing_metadata, call.initial_metadata)
            story += [await ask() for ask in asks]
        stories.append(story)

    assert stories[1] == stories[0]
    assert stories[0][4] is grpc.StatusCode.CANCELLED
    await asyncio.to_thread(leaks.assert_nothing_held, [stack])


@idle.stacks()
@every_way
async def test_an_asyncio_interceptor_may_answer_by_itself(
    way: str, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(policies())
    below = aio_below(RpcKind.UNARY_UNARY, lambda: b"cached")
    for ours in (None, stack):
        async with _over(way, ours, target, below) as channel:
            call = channel.unary_unary(RpcKind.UNARY_UNARY.path)(b"a")

            assert await call == b"cached"
            assert await call.code() is grpc.StatusCode.OK

    await asyncio.to_thread(leaks.assert_nothing_held, [stack])
    assert leaks.results(stack) == {("OK", "success"): 1}


def _raised(call: Callable[..., object], kind: RpcKind) -> object:
    """Return what a call raises."""
    with pytest.raises(Exception, match=r"mine|plain") as caught:
        call(requests_of(kind))
    return caught.value


def _over(way: str, stack: Stack | None, target: str, below: Any) -> Any:
    """Return a channel with an interceptor, and ours or one that does nothing above it."""
    if way == "wrap":
        channel = grpc.aio.insecure_channel(target, interceptors=[below])
        return channel if stack is None else wrap_channel(channel, stack)
    above = aio_sides.PASSING_ON if stack is None else aio.client_interceptors(stack)
    return grpc.aio.insecure_channel(target, interceptors=[*above, below])


def _requests(kind: RpcKind) -> Any:
    return iter(REQUESTS) if kind.streams_requests else REQUESTS[0]
