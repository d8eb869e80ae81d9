"""A request stream under asyncio that can be sent again while what was sent fits the buffer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ninelives_grpc.interceptors.replay import Buffer

if TYPE_CHECKING:
    from ninelives_grpc.call import Call

T = TypeVar("T")


class AioReplay(Generic[T]):
    """Hands the messages of one iterator to one attempt after the other, or to several at once.

    A task of its own asks the application's iterator, and only when an attempt wants a message: an
    attempt that is cancelled while it waits takes nothing with it.
    """

    def __init__(
        self,
        source: AsyncIterable[T] | Iterable[T],
        call: Call,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Read from `source`, once, in a loop that need not run yet."""
        self.buffer: Buffer[T] = Buffer(call)
        self.news = asyncio.Event()
        self.ended = False
        self.error: BaseException | None = None
        self._closed = False
        self._call = call
        self._source = source
        self._wanted = 0
        self._demand = asyncio.Event()
        self._pump = loop.create_task(self._run())

    def attempt(self) -> AioReplayAttempt[T]:
        """Return the messages from the first one on, for one attempt."""
        return AioReplayAttempt(self)

    def close(self) -> None:
        """Stop asking the application for messages: the call is over."""
        self._closed = True
        self._pump.cancel()

    async def pull(self, position: int) -> None:
        """Ask for the message at a position, and wait for news."""
        self._wanted = max(self._wanted, position + 1)
        self._demand.set()
        self.news.clear()
        await self.news.wait()

    async def _run(self) -> None:
        messages = _as_async(self._source)
        try:
            while True:
                while self._wanted <= self.buffer.end:
                    self._demand.clear()
                    await self._demand.wait()
                self.buffer.keep(await anext(messages))
                self.news.set()
        except StopAsyncIteration:
            pass
        except BaseException as error:
            # It belongs to every attempt, and the stream can not be had again. A cancellation in
            # the application's iterator is no end of its messages either.
            self._call.committed = True
            self.error = error
            if self._closed or not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            self.ended = True
            self.news.set()


class AioReplayAttempt(Generic[T]):
    """The messages of a stream from the first one on; an async iterator for gRPC."""

    def __init__(self, replay: AioReplay[T]) -> None:
        """Start with the first message."""
        self._replay = replay
        self._position = 0
        self._over = False

    def end(self, _: object = None) -> None:
        """Take no more messages: the attempt is over, and they are for the next one."""
        self._over = True
        self._replay.news.set()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> T:
        """Return the next message, from the buffer or the application."""
        replay = self._replay
        while not self._over:
            if self._position < replay.buffer.end:
                self._position += 1
                return replay.buffer.take(self._position - 1)
            if replay.ended:
                if replay.error is not None:
                    raise replay.error
                break
            await replay.pull(self._position)
        raise StopAsyncIteration


def _as_async(source: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    return aiter(source) if isinstance(source, AsyncIterable) else _from_sync(source)


async def _from_sync(source: Iterable[T]) -> AsyncIterator[T]:
    for message in source:
        yield message


class Writes(Generic[T]):
    """The requests of a stream that is written to; a `write` waits until an attempt asks."""

    def __init__(self) -> None:
        """Start with nothing written."""
        self.half_closed = False
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(maxsize=1)

    async def write(self, message: T) -> None:
        """Hand one message over."""
        await self._queue.put(message)

    async def done(self) -> None:
        """End the stream."""
        if not self.half_closed:
            self.half_closed = True
            await self._queue.put(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Go through what is written."""
        while True:
            message = await self._queue.get()
            if message is None:
                return
            yield message
