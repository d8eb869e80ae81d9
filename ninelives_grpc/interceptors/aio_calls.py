"""Asyncio call objects of our own, for calls that may take more than one attempt.

They are what gRPC returns in their place. Code, details and metadata are those of the last attempt.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from grpc import aio
from grpc.aio import AioRpcError, Metadata

from ninelives_grpc.errors import AioLocalError
from ninelives_grpc.outcome import Code
from ninelives_grpc.stacks.edge import error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from ninelives_grpc.interceptors.aio_driver import AioDriver
    from ninelives_grpc.interceptors.aio_replay import AioReplay, Writes

T = TypeVar("T")
_CANCELLED_HERE = "Locally cancelled by application!"
_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."
_FINISHED = "RPC already finished."
_NO_BYTES = "Argument 'message' has incorrect type (expected bytes, got {})"
_HALF_CLOSED = 'RPC is half closed after calling "done_writing".'


class ProtectedAioCall:
    """What all four kinds of call have in common."""

    _channel = None
    """Older versions of gRPC look for it when they close a channel, to tell whose call this is."""

    def __init__(self, driver: AioDriver) -> None:
        """Show what the driver does."""
        self._driver = driver

    def cancel(self) -> bool:
        """Cancel the attempt, or the wait between two."""
        return self._driver.cancel()

    def cancelled(self) -> bool:
        """Tell whether it was cancelled, and not merely never started."""
        driver = self._driver
        if not driver.finished or driver.execution.outcome.code is not Code.CANCELLED:
            return False
        return self._raised() is None

    def done(self) -> bool:
        """Tell whether it is over."""
        return self._driver.finished

    def time_remaining(self) -> float | None:
        """Return the seconds left, or None without a deadline."""
        driver = self._driver
        deadline = driver.execution.call.deadline
        return None if deadline is None else max(0.0, deadline - driver.stack.clock.now())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back with this object at the end, or at once when that has passed."""
        self._driver.when_finished(partial(callback, self))

    async def initial_metadata(self) -> Metadata:
        """Return the headers as soon as an attempt has some; from then on nothing is repeated."""
        driver, attempt = self._driver, None
        while True:
            attempt = await driver.next_attempt(attempt)
            if attempt is None:
                break
            metadata: Metadata = await attempt.initial_metadata()
            if driver.attempt is attempt and not attempt.done():
                # Without headers of the server's it may be a failure whose code is on its way.
                driver.execution.call.committed |= len(metadata) > 0
                return metadata
        local = driver.execution.outcome.local
        last = None if local else driver.called_off or driver.attempt
        return Metadata() if last is None else await last.initial_metadata()

    async def trailing_metadata(self) -> Metadata:
        """Return the trailing metadata of the last attempt, once the call is over."""
        await self._driver.until_finished()
        ended = self._ended()
        return Metadata() if ended is None else await _ask(ended.trailing_metadata())

    async def code(self) -> grpc.StatusCode:
        """Return the status code of the last attempt, once the call is over."""
        await self._driver.until_finished()
        raiser = self._raiser()
        if raiser is not None:
            code: grpc.StatusCode = await raiser.code()
            return code
        return self._driver.execution.outcome.code

    async def details(self) -> str:
        """Return the details of the last attempt, once the call is over."""
        await self._driver.until_finished()
        ended = self._ended()
        return "answered locally" if ended is None else await _ask(ended.details())

    async def debug_error_string(self) -> str:
        """Return what gRPC says for debugging, once the call is over."""
        await self._driver.until_finished()
        ended = self._ended()
        return "" if ended is None else await _ask(ended.debug_error_string())

    async def wait_for_connection(self) -> None:
        """Wait until an attempt is connected, or raise as the call does."""
        driver, attempt = self._driver, None
        while True:
            attempt = await driver.next_attempt(attempt)
            if attempt is None:
                await self._raise_if_failed()
                return
            try:
                await attempt.wait_for_connection()
            except AioRpcError:
                continue
            return

    def _ended(self) -> Any:
        """Return what knows how the call ended: a call object, an error, or None."""
        driver = self._driver
        outcome = driver.execution.outcome
        if not outcome.failed:
            return None if outcome.local else driver.attempt
        raiser = self._raiser()
        if raiser is not None:
            return raiser
        error = error_of(outcome, driver.stack.name, aio=True) if outcome.refusal else outcome.error
        if isinstance(error, AioRpcError):
            return error
        if driver.called_off is not None:
            return driver.called_off
        # Cancelled between two attempts, or the channel was closed meanwhile.
        details = str(error or _CANCELLED_HERE)
        return AioLocalError(details, code=outcome.code)

    def _raiser(self) -> Any:
        """Return gRPC's object of an attempt in which an interceptor raised, or None.

        It raises the same whatever it is asked.
        """
        attempt = self._driver.attempt
        return attempt if self._raised() is not None and _intercepted(attempt) else None

    def _raised(self) -> BaseException | None:
        """Return what was raised in place of a call, or by the application in a policy, or None."""
        error = self._driver.execution.outcome.error
        return None if isinstance(error, AioRpcError | asyncio.CancelledError) else error

    async def _raise_if_failed(self) -> None:
        outcome = await self._driver.wait()
        if not outcome.failed:
            return
        if self._cancelled_here():
            raise asyncio.CancelledError
        raise error_of(outcome, self._driver.stack.name, aio=True)

    def _cancelled_here(self) -> bool:
        """Tell whether it was the application that cancelled it, and not the server."""
        if not self.cancelled():
            return False
        error = self._driver.execution.outcome.error
        return not isinstance(error, AioRpcError) or error.details() == _CANCELLED_HERE

    def __repr__(self) -> str:
        """Show how it ended, or that it has not."""
        driver = self._driver
        method = driver.execution.call.method.name
        if not driver.finished:
            return f"<{type(self).__name__} of {method}>"
        return (
            f"<{type(self).__name__} of {method} that ended with {driver.execution.outcome.code}>"
        )


class UnaryResponseCall(ProtectedAioCall, Generic[T]):
    """A call with one response: it is awaited."""

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the response."""
        driver = self._driver
        attempt = driver.attempt
        if attempt is not None:
            try:
                response: T = yield from attempt.__await__()
            except AioRpcError:
                # Another attempt may follow; if not, `_result` raises this error.
                pass
            else:
                return response
        return (yield from self._result().__await__())

    async def _result(self) -> T:
        await self._raise_if_failed()
        driver = self._driver
        outcome = driver.execution.outcome
        value: T = outcome.value if outcome.local else await driver.attempt  # type: ignore[assignment]
        return value


class StreamResponseCall(ProtectedAioCall, Generic[T]):
    """A call with a response stream: it is iterated or read."""

    def __init__(self, driver: AioDriver) -> None:
        """Show what the driver does."""
        super().__init__(driver)
        self._attempt: Any = None
        self._iterator: Any = None
        self._iterated: bool | None = None
        self._local: Any = None

    def __aiter__(self) -> AsyncIterator[T]:
        """Go through the messages."""
        self._keep_to_one_style(iterated=True)
        return self

    def __anext__(self) -> Any:
        """Return the next message."""
        if self._iterator is None:
            return self._first(iterated=True)
        coming: Any = self._iterator.__anext__()
        return self._driver.take(coming) if self._driver.followed else coming

    async def aclose(self) -> None:
        """Go through no more messages; the call goes on, as with gRPC's own iterator."""
        if self._iterator is not None:
            await self._iterator.aclose()

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        if self._attempt is not None:
            return await self._driver.take(self._attempt.read())
        if not self._driver.finished:
            self._keep_to_one_style(iterated=False)
        try:
            return await self._first(iterated=False)
        except StopAsyncIteration:
            return aio.EOF

    async def _first(self, *, iterated: bool) -> Any:
        driver, attempt = self._driver, None
        while True:
            attempt = await driver.next_attempt(attempt)
            if attempt is None:
                return await self._after_the_last()
            iterator = aiter(attempt) if iterated else None
            read = attempt.read() if iterator is None else iterator.__anext__()
            try:
                message = await driver.read(attempt, read)
            except AioRpcError:
                # Another attempt may follow; if not, `_after_the_last` raises this error.
                continue
            self._attempt, self._iterator = attempt, iterator
            return message

    async def _after_the_last(self) -> Any:
        """Go on where no attempt is left to read from: a local answer, or the end."""
        await self._raise_if_failed()
        outcome = self._driver.execution.outcome
        if not outcome.local:
            raise StopAsyncIteration
        if self._local is None:
            self._local = iter(outcome.value)  # type: ignore[call-overload]
        for message in self._local:
            return message
        raise StopAsyncIteration

    def _keep_to_one_style(self, *, iterated: bool) -> None:
        if self._iterated is None:
            self._iterated = iterated
        elif self._iterated is not iterated:
            raise aio.UsageError(_MIXED)

    def __del__(self) -> None:
        """Cancel a stream that nobody holds any more, as gRPC does."""
        driver: AioDriver | None = getattr(self, "_driver", None)
        if driver is not None and not driver.finished and not driver.loop.is_closed():
            driver.loop.call_soon_threadsafe(driver.cancel)


class StreamRequestMixin:
    """A call whose requests are written one by one, if no iterator was given."""

    _driver: AioDriver
    _cancelled_here: Callable[[], bool]
    _raise_if_failed: Callable[[], Coroutine[Any, Any, None]]
    _writes: Writes[Any] | None
    _raw: bool

    def feed(self, writes: Writes[Any] | None, replay: AioReplay[Any], *, raw: bool) -> None:
        """Take the requests from here; those that are `raw` must be bytes."""
        self._writes = writes
        self._raw = raw
        self._driver.when_finished(replay.close)

    @property
    def _done_writing_flag(self) -> bool:
        """What gRPC's own interceptor machinery asks a call that an interceptor returned."""
        return bool(getattr(self._driver.attempt, "_done_writing_flag", False))

    async def write(self, request: Any) -> None:
        """Send one request; waits until the attempt under way asks for it."""
        writes = self._check_writable()
        if writes.half_closed:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        if self._raw and not isinstance(request, bytes | None):
            raise TypeError(_NO_BYTES.format(type(request).__name__))
        if not await self._unless_finished(writes.write(request)):
            if not _intercepted(self._driver.attempt):
                await self._raise_if_failed()
            elif self._cancelled_here():
                raise asyncio.CancelledError
            raise asyncio.InvalidStateError(_FINISHED)

    async def done_writing(self) -> None:
        """Say that no more requests will come."""
        writes = self._check_writable(done=True)
        if not self._driver.finished:
            await self._unless_finished(writes.done())

    def _check_writable(self, *, done: bool = False) -> Writes[Any]:
        if self._writes is None:
            raise aio.UsageError(_MIXED)
        if self._driver.finished and not done:
            raise asyncio.InvalidStateError(_FINISHED)
        return self._writes

    async def _unless_finished(self, work: Any) -> bool:
        """Await the work, or the end of the call; tell whether the work came first.

        Being cancelled meanwhile cancels the call, as on a bare channel.
        """
        driver = self._driver
        task = driver.loop.create_task(work)
        over = driver.loop.create_task(driver.until_finished())
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            driver.cancel()
            raise
        finally:
            worked = task.done()
            over.cancel()
            task.cancel()
        return worked


def _intercepted(attempt: Any) -> bool:
    """Tell whether an attempt goes through interceptors below, which gRPC answers for."""
    return hasattr(attempt, "_interceptors_task")


async def _ask(answer: Any) -> Any:
    """Return what a call object answers by a coroutine, and an error at once."""
    return await answer if asyncio.iscoroutine(answer) else answer


class UnaryUnaryCall(UnaryResponseCall[T], aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """One request, one response."""


class UnaryStreamCall(StreamResponseCall[T], aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamUnaryCall(StreamRequestMixin, UnaryResponseCall[T], aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one response."""


class StreamStreamCall(StreamRequestMixin, StreamResponseCall[T], aio.StreamStreamCall):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""
