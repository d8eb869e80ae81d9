"""Settle an asyncio call that is gRPC's own object, when it ends or is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from grpc import aio

from ninelives_grpc.interceptors.aio_ends import hear_of_end, outcome_of
from ninelives_grpc.outcome import cancelled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable

    import grpc

    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.stack import Stack

T = TypeVar("T")


class AioWatch:
    """Waits for the end of one call object."""

    __slots__ = ("_execution", "_stack", "_streaming")

    def __init__(self, stack: Stack, execution: Execution, *, streaming: bool) -> None:
        """Prepare to watch; `ended` is to hear of the end of the call."""
        self._stack = stack
        self._execution = execution
        self._streaming = streaming

    def ended(self, call: Any) -> None:
        """Hear that it is over; runs in a callback, and must not raise."""
        execution, now = self._execution, self._stack.clock.now()
        if execution.finished:
            return
        # How long a stream lasts says nothing of how fast its server is, should that count now.
        unknown = self._streaming and execution.plan.follows_messages
        duration = 0.0 if unknown else now - execution.call.started
        execution.settle(outcome_of(call, duration), now)
        self._stack.recorder.ended(execution.call, execution.outcome, now)

    def lost(self) -> None:
        """Hear that nobody holds the call any more."""
        execution, now = self._execution, self._stack.clock.now()
        if not execution.finished:
            execution.settle(cancelled(), now)
            self._stack.recorder.ended(execution.call, execution.outcome, now)


class PassedStream(Generic[T]):
    """A response stream of gRPC's own, in a thin cover that notices when it is dropped.

    gRPC cancels a stream that is dropped, but not one with a callback registered: that keeps it
    alive until the next garbage collection, and with it its permits.
    """

    _channel = None
    """Older versions of gRPC look for it when they close a channel, to tell whose call this is."""

    def __init__(self, call: Any, watch: AioWatch, loop: asyncio.AbstractEventLoop) -> None:
        """Cover a call."""
        self._call = call
        self._watch = watch
        self._loop = loop
        hear_of_end(call, watch.ended)

    def __aiter__(self) -> Messages[T]:
        """Go through the messages."""
        return Messages(self, aiter(self._call))

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        return await self._call.read()

    async def write(self, request: Any) -> None:
        """Send one request."""
        await self._call.write(request)

    async def done_writing(self) -> None:
        """Say that no more requests will come."""
        await self._call.done_writing()

    def cancel(self) -> bool:
        """Cancel the call."""
        return bool(self._call.cancel())

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return bool(self._call.cancelled())

    def done(self) -> bool:
        """Tell whether it is over."""
        return bool(self._call.done())

    def time_remaining(self) -> float | None:
        """Return the seconds left, or None without a deadline."""
        remaining: float | None = self._call.time_remaining()
        return remaining

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back with this object at the end, or at once when that has passed."""
        self._call.add_done_callback(lambda _: callback(self))

    async def initial_metadata(self) -> aio.Metadata:
        """Return the headers."""
        metadata: aio.Metadata = await self._call.initial_metadata()
        return metadata

    async def trailing_metadata(self) -> aio.Metadata:
        """Return the trailing metadata, once the call is over."""
        metadata: aio.Metadata = await self._call.trailing_metadata()
        return metadata

    async def code(self) -> grpc.StatusCode:
        """Return the status code, once the call is over."""
        code: grpc.StatusCode = await self._call.code()
        return code

    async def details(self) -> str:
        """Return the details, once the call is over."""
        return str(await self._call.details())

    async def debug_error_string(self) -> str:
        """Return what gRPC says for debugging, once the call is over."""
        return str(await self._call.debug_error_string())

    async def wait_for_connection(self) -> None:
        """Wait until the call is connected."""
        await self._call.wait_for_connection()

    def __repr__(self) -> str:
        """Show the call."""
        return repr(self._call)

    def __del__(self) -> None:
        """Cancel a stream that nobody holds any more."""
        call = getattr(self, "_call", None)
        if call is not None and not call.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_drop, call, self._watch)


class Messages(Generic[T]):
    """The messages of a stream; holds on to its cover for as long as it is iterated."""

    __slots__ = ("_iterator", "_stream")

    def __init__(self, stream: PassedStream[T], iterator: AsyncGenerator[T]) -> None:
        """Go through `iterator`."""
        self._stream = stream
        self._iterator = iterator

    def __aiter__(self) -> Messages[T]:
        """Return itself."""
        return self

    def __anext__(self) -> Any:
        """Return the next message."""
        return self._iterator.__anext__()

    async def aclose(self) -> None:
        """Go through no more of them; the call goes on, as with gRPC's own iterator."""
        await self._iterator.aclose()


class PassedUnaryStream(PassedStream[T], aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class PassedStreamStream(PassedStream[T], aio.StreamStreamCall):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""


def _drop(call: Any, watch: AioWatch) -> None:
    watch.lost()
    call.cancel()
