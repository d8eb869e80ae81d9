"""Channels of every kind behind one interface, so that one table of scenarios runs over all.

A call runs in the background, sync in a thread and asyncio in the loop of a `LoopThread`; the test
itself is plain sync code that starts, cancels and waits.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import grpc
from grpc import StatusCode

from ninelives_grpc import aio, client_interceptors, wrap_channel
from ninelives_grpc.outcome import code_of

from .backend import PATIENCE, RpcKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from ninelives_grpc import Stack

CALLERS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="test-caller")
REQUESTS = [b"a", b"b", b"c"]


class Style(StrEnum):
    """The ways in which an application can make a call and take what comes."""

    CALL = "call"
    WITH_CALL = "with_call"
    FUTURE = "future"
    ITERATE = "iterate"
    READ_WRITE = "read_write"

    @property
    def blocks(self) -> bool:
        """Whether the caller waits in the call itself, and so can not cancel it."""
        return self in {Style.CALL, Style.WITH_CALL}


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="test-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the loop, and return what it returns."""

        async def work() -> Any:
            return function(*args)

        return self.run(work())

    def close(self) -> None:
        """Stop the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@dataclass
class Running:
    """A call under way, or ended.

    Attributes:
        messages: What has come so far.
        error: What was raised, or None.
        call: gRPC's call object or ours, once there is one.
    """

    messages: list[bytes] = field(default_factory=list)
    error: BaseException | None = None
    call: Any = None
    changed: threading.Condition = field(default_factory=threading.Condition)
    done: Future[None] = field(default_factory=Future)
    canceller: Callable[[Callable[[], object]], object] = lambda cancel: cancel()

    def note(self, *, call: Any = None, message: bytes | None = None) -> None:
        """Note the call object or another message."""
        with self.changed:
            if call is not None:
                self.call = call
            if message is not None:
                self.messages.append(message)
            self.changed.notify_all()

    def result(self) -> Running:
        """Wait for the end; returns itself."""
        self.done.result(PATIENCE)
        return self

    def wait_for_messages(self, count: int) -> None:
        """Wait until so many messages have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, PATIENCE)

    def cancel(self) -> None:
        """Cancel the call, as the application does that holds its call object."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.call is not None, PATIENCE)
        self.canceller(self.call.cancel)

    @property
    def code(self) -> StatusCode:
        """How it ended."""
        return StatusCode.OK if self.error is None else code_of(self.error)

    @property
    def details(self) -> str | None:
        """What the error says."""
        assert isinstance(self.error, grpc.RpcError), repr(self.error)
        return self.error.details()

    @property
    def trailing(self) -> dict[str, str | bytes]:
        """Trailing metadata of the error."""
        assert isinstance(self.error, grpc.RpcError), repr(self.error)
        return dict(tuple(self.error.trailing_metadata() or ()))


class SyncClient:
    """Makes calls on a sync channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    @staticmethod
    def styles(kind: RpcKind) -> tuple[Style, ...]:
        """Return the styles that there are for a kind."""
        if kind.streams_responses:
            return (Style.ITERATE,)
        return (Style.CALL, Style.WITH_CALL, Style.FUTURE)

    def start(self, kind: RpcKind, style: Style, requests: Any = None, **options: Any) -> Running:
        """Start a call; `options` are those of gRPC."""
        running = Running()
        CALLERS.submit(self._work, running, kind, style, requests, options)
        return running

    def _work(
        self, running: Running, kind: RpcKind, style: Style, requests: Any, options: Any
    ) -> None:
        method = getattr(self.channel, kind)(kind.path)
        requests = REQUESTS if requests is None else requests
        request = iter(requests) if kind.streams_requests else requests[0]
        try:
            for message in self._messages(running, method, style, request, options):
                running.note(message=message)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            running.error = error
        running.done.set_result(None)

    @staticmethod
    def _messages(
        running: Running, method: Any, style: Style, request: Any, options: Any
    ) -> Iterator[bytes]:
        match style:
            case Style.CALL:
                yield method(request, **options)
            case Style.WITH_CALL:
                response, call = method.with_call(request, **options)
                running.note(call=call)
                assert call.code() is StatusCode.OK
                yield response
            case Style.FUTURE:
                future = method.future(request, **options)
                running.note(call=future)
                yield future.result(PATIENCE)
            case _:
                stream = method(request, **options)
                running.note(call=stream)
                yield from stream

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class AioClient:
    """Makes calls on an asyncio channel."""

    def __init__(self, loop: LoopThread, channel: grpc.aio.Channel) -> None:
        self._loop = loop
        self.channel = channel

    @staticmethod
    def styles(kind: RpcKind) -> tuple[Style, ...]:
        """Return the styles that there are for a kind."""
        if kind is RpcKind.UNARY_UNARY:
            return (Style.ITERATE,)
        return (Style.ITERATE, Style.READ_WRITE)

    def start(self, kind: RpcKind, style: Style, requests: Any = None, **options: Any) -> Running:
        """Start a call; `options` are those of gRPC."""
        running = Running(canceller=self._loop.loop.call_soon_threadsafe)
        work = self._work(running, kind, style, requests or REQUESTS, options)
        asyncio.run_coroutine_threadsafe(work, self._loop.loop)
        return running

    async def _work(
        self, running: Running, kind: RpcKind, style: Style, requests: Any, options: Any
    ) -> None:
        method = getattr(self.channel, kind)(kind.path)
        writer = None
        try:
            if not kind.streams_requests:
                call = method(requests[0], **options)
            elif style is Style.ITERATE:
                call = method(_async(requests), **options)
            else:
                call = method(**options)
                writer = asyncio.ensure_future(_write(call, requests))
            running.note(call=call)
            async for message in _messages(call, kind, style):
                running.note(message=message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            running.error = error
        if writer is not None:
            await writer
        running.done.set_result(None)

    def close(self) -> None:
        """Close the channel."""
        self._loop.run(self.channel.close())


async def _async(requests: Any) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def _write(call: Any, requests: Any) -> None:
    """Write the requests, as far as the call goes on that long."""
    try:
        for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
        pass


async def _messages(call: Any, kind: RpcKind, style: Style) -> AsyncIterator[bytes]:
    if not kind.streams_responses:
        yield await call
    elif style is Style.ITERATE:
        async for message in call:
            yield message
    else:
        while (message := await call.read()) is not grpc.aio.EOF:
            yield message


Client = SyncClient | AioClient
Connect = "Callable[[str, Stack, LoopThread], Client]"


def sync_wrapped(target: str, stack: Stack, _: LoopThread) -> Client:
    return SyncClient(wrap_channel(grpc.insecure_channel(target), stack))


def sync_intercepted(target: str, stack: Stack, _: LoopThread) -> Client:
    channel = grpc.insecure_channel(target)
    return SyncClient(grpc.intercept_channel(channel, *client_interceptors(stack)))


def aio_wrapped(target: str, stack: Stack, loop: LoopThread) -> Client:
    def connect() -> grpc.aio.Channel:
        return wrap_channel(grpc.aio.insecure_channel(target), stack)

    return AioClient(loop, loop.call(connect))


def aio_intercepted(target: str, stack: Stack, loop: LoopThread) -> Client:
    def connect() -> grpc.aio.Channel:
        interceptors = aio.client_interceptors(stack)
        return grpc.aio.insecure_channel(target, interceptors=interceptors)

    return AioClient(loop, loop.call(connect))


PROTECTED: dict[str, Any] = {
    "sync-wrap": sync_wrapped,
    "sync-interceptor": sync_intercepted,
    "aio-wrap": aio_wrapped,
    "aio-interceptor": aio_intercepted,
}
"""How a client can be protected."""
