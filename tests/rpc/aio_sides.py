"""Two asyncio channels, gRPC's own and a protected one, that are put to the same test.

A wrapped channel is measured by a bare one, our interceptors by interceptors that do nothing: what
gRPC's own machinery for interceptors loses, we can not give back.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import aio, wrap_channel

from . import idle
from .backend import PATIENCE, Backend, RpcKind
from .clients import REQUESTS, Style
from .handlers import plain_handlers
from .servers import SyncServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ninelives_grpc import Stack

    Tell = Callable[["Side"], Awaitable[Any]]
    Both = Callable[..., Awaitable[tuple[Any, Any]]]

STACKS = {name: idle.CLIENT[name] for name in idle.USUAL}
WAYS = ("wrap", "interceptor")
every_kind = pytest.mark.parametrize("kind", RpcKind)
unary_responses = pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.STREAM_UNARY])
request_streams = pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
every_way = pytest.mark.parametrize("way", WAYS)
every_stack = pytest.mark.parametrize("policies", STACKS)
HEADERS: Any = (("x-early", "1"), ("x-early-bin", b"\xff"))
TRAILERS = (("x-late", "3"), ("x-late-bin", b"\x00"))


class _PassingOn:
    """What an interceptor does that does nothing."""

    async def pass_on(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)

    intercept_unary_unary = intercept_unary_stream = pass_on
    intercept_stream_unary = intercept_stream_stream = pass_on


class _UnaryUnary(_PassingOn, grpc.aio.UnaryUnaryClientInterceptor):
    pass


class _UnaryStream(_PassingOn, grpc.aio.UnaryStreamClientInterceptor):
    pass


class _StreamUnary(_PassingOn, grpc.aio.StreamUnaryClientInterceptor):
    pass


class _StreamStream(_PassingOn, grpc.aio.StreamStreamClientInterceptor):
    pass


PASSING_ON = (_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream())


def connect(
    way: str,
    stack: Stack | None,
    to: str,
    credentials: grpc.ChannelCredentials | None = None,
    **options: Any,
) -> grpc.aio.Channel:
    """Return a channel in one of `WAYS`, protected by a stack or, for comparison, by none."""
    if way == "interceptor":
        options["interceptors"] = PASSING_ON if stack is None else aio.client_interceptors(stack)
    if credentials is None:
        channel = grpc.aio.insecure_channel(to, **options)
    else:
        channel = grpc.aio.secure_channel(to, credentials, **options)
    return channel if way == "interceptor" or stack is None else wrap_channel(channel, stack)


@dataclass
class Side:
    """A channel and what it is connected to.

    Attributes:
        channel: The channel.
        target: Its address.
        backend: The script of a server that no other side talks to.
        over: Set at the end.
    """

    channel: grpc.aio.Channel
    target: str
    backend: Backend
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(
        self, kind: RpcKind, style: Style = Style.ITERATE, requests: Any = None, **options: Any
    ) -> Any:
        """Start a call, and return its call object."""
        method = getattr(self.channel, kind)(kind.path)
        if not kind.streams_requests:
            return method(REQUESTS[0], **options)
        if style is Style.READ_WRITE:
            return method(**options)
        return method(many() if requests is None else requests, **options)

    def start_silent(self, kind: RpcKind, **options: Any) -> Any:
        """Start a call that sends no request of a stream, nor the end of them."""
        return self.start(kind, requests=silence(self.over), **options)

    async def stalled(self, count: int = 1) -> None:
        """Wait until so many handlers have stalled."""
        await asyncio.to_thread(self.backend.wait_until_stalled, count)

    async def release_with_headers(self, call: Any, kind: RpcKind) -> None:
        """Let a stalled call end once its headers are there: gRPC may lose them to its status.

        Those of a unary call come with its end.
        """
        await self.stalled()
        if kind is not RpcKind.UNARY_UNARY:
            await call.initial_metadata()
        self.backend.release()

    async def gone(self) -> None:
        """Wait until a handler has found that nobody waits any more."""
        await asyncio.to_thread(self.backend.wait_until_gone)

    async def has(self, happened: Callable[[], object]) -> None:
        """Wait until something has come of the calls."""
        await asyncio.to_thread(self.backend.wait_for, happened)

    def anonymous(self, text: str) -> str:
        """Return what gRPC says without what differs from run to run."""
        text = re.sub(r'created_time:"[^"]*"|\b0x[0-9a-f]+\b', "_", text)
        return text.replace(self.target.rpartition(":")[2], "_")


@contextlib.asynccontextmanager
async def side(way: str, stack: Stack | None, **options: Any) -> AsyncIterator[Side]:
    """Return a channel to a server of its own; closes both at the end."""
    backend = Backend()
    server = SyncServer(plain_handlers(backend))
    try:
        async with connect(way, stack, server.target, **options) as channel:
            made = Side(channel, server.target, backend)
            try:
                yield made
            finally:
                made.over.set()
    finally:
        backend.release()
        await asyncio.to_thread(server.close)


async def both(way: str, stack: Stack, tell: Tell, **options: Any) -> tuple[Any, Any]:
    """Return what is told of gRPC's own channel, and of the protected one."""
    told = []
    for protection in (None, stack):
        async with side(way, protection, **options) as each:
            async with asyncio.timeout(PATIENCE) as limit:
                told.append(await tell(each))
            assert not limit.expired(), "waited in vain"
    return told[0], told[1]


async def many() -> AsyncIterator[bytes]:
    """Go through the usual requests."""
    for request in REQUESTS:
        yield request


async def silence(over: asyncio.Event) -> AsyncIterator[bytes]:
    """Give no request before it is over."""
    await over.wait()
    none: tuple[bytes, ...] = ()
    for request in none:
        yield request


async def messages(call: Any, kind: RpcKind, style: Style = Style.ITERATE) -> list[bytes]:
    """Return what a call answers."""
    if not kind.streams_responses:
        return [await call]
    if style is Style.ITERATE:
        return [message async for message in call]
    answers = []
    while (message := await call.read()) is not grpc.aio.EOF:
        answers.append(message)
    return answers


async def write_all(call: Any, kind: RpcKind, style: Style = Style.READ_WRITE) -> None:
    """Write the usual requests, if that is the style."""
    if kind.streams_requests and style is Style.READ_WRITE:
        for request in REQUESTS:
            await call.write(request)
        await call.done_writing()


def pairs(metadata: Any) -> list[tuple[str, Any]] | None:
    """Return metadata in a form that can be compared."""
    return None if metadata is None else [tuple(pair) for pair in metadata]


async def outcome(work: Any) -> Any:
    """Return what comes of it, in a form that can be compared."""
    try:
        return await work
    except grpc.aio.AioRpcError as error:
        headers, trailers = error.initial_metadata(), error.trailing_metadata()
        return type(error), error.code(), error.details(), pairs(headers), pairs(trailers)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is compared
        return type(error), str(error)


async def status(call: Any) -> tuple[Any, ...]:
    """Return how a call ended, once it has."""
    code, details = await call.code(), await call.details()
    return code, details, pairs(await call.trailing_metadata()), call.done(), call.cancelled()


QUESTIONS = ("code", "details", "trailing_metadata", "initial_metadata", "wait_for_connection")
"""What every call object can be asked by a coroutine."""


def uses(kind: RpcKind, style: Style) -> tuple[str, ...]:
    """Return what can be awaited of a call that was started in a style."""
    if not kind.streams_responses:
        taken: tuple[str, ...] = ("await",)
    else:
        taken = ("iterate",) if style is Style.ITERATE else ("read",)
    written = kind.streams_requests and style is Style.READ_WRITE
    return (*QUESTIONS, *taken, *(("write", "done_writing") if written else ()))


async def use(call: Any, name: str) -> Any:
    """Do one of `uses`, and return what comes of it, in a form that can be compared."""
    if name == "await":
        return await outcome(call)
    if name == "iterate":
        return await outcome(messages(call, RpcKind.UNARY_STREAM))
    if name == "write":
        return await outcome(call.write(b"x"))
    if name.endswith("metadata"):
        return pairs(await getattr(call, name)())
    return await outcome(getattr(call, name)())
