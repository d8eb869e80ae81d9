"""What a handler does, written once as a generator of steps, in every form that gRPC knows.

A step is a message to send, `READ`, or what a method of the context returned, which asyncio wants
awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from .backend import RpcKind

Steps = Generator[Any, Any, None]
Body = Callable[[Any], Steps]

NOTHING = object()
READ = object()
"""A step: read the next request; None when there are no more."""

SYNC, AIO, READER_WRITER, PLAIN = "sync", "aio", "aio-reader-writer", "aio-plain"
NATURES = (SYNC, AIO, READER_WRITER, PLAIN)
"""The forms of a handler: the last is a plain function on an asyncio server."""


def handler(nature: str, kind: RpcKind, body: Body) -> Any:
    """Return a handler of a nature that takes the steps of `body`."""
    if nature in {SYNC, PLAIN}:
        return _plain(kind, body)
    return _asynchronous(kind, body, reader_writer=nature == READER_WRITER)


def _plain(kind: RpcKind, body: Body) -> Any:
    def stream(request: Any, context: Any) -> Iterator[bytes]:
        requests = request if kind.streams_requests else iter((request,))
        with contextlib.closing(body(context)) as steps:
            resume: Callable[[], Any] = partial(next, steps)
            while (step := _next_step(resume)) is not None:
                resume = partial(next, steps)
                if isinstance(step, bytes):
                    yield step
                elif step is READ:
                    try:
                        resume = partial(steps.send, next(requests, None))
                    except grpc.RpcError as error:
                        resume = partial(steps.throw, error)

    def unary(request: Any, context: Any) -> bytes:
        return b"".join(stream(request, context))

    return stream if kind.streams_responses else unary


def _next_step(resume: Callable[[], Any]) -> Any:
    """Return the next step, or None at the end."""
    try:
        step = resume()
    except StopIteration:
        return None
    return NOTHING if step is None else step


def _asynchronous(kind: RpcKind, body: Body, *, reader_writer: bool) -> Any:
    async def stream(request: Any, context: Any) -> AsyncGenerator[bytes, None]:
        requests: Any = None
        with contextlib.closing(body(context)) as steps:
            resume: Callable[[], Any] = partial(next, steps)
            while (step := _next_step(resume)) is not None:
                resume = partial(next, steps)
                if isinstance(step, bytes):
                    yield step
                elif step is not NOTHING:
                    if step is READ:
                        # Made only now: gRPC's generator wants to be used once it is there.
                        requests = requests or _requests(kind, request)
                        step = anext(requests, None)
                    resume = await _awaited(step, steps)

    async def write(request: Any, context: Any) -> None:
        async with contextlib.aclosing(stream(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    async def unary(request: Any, context: Any) -> bytes:
        async with contextlib.aclosing(stream(request, context)) as messages:
            return b"".join([message async for message in messages])

    if not kind.streams_responses:
        return unary
    return write if reader_writer else stream


def _requests(kind: RpcKind, request: Any) -> AsyncIterator[bytes]:
    async def one() -> AsyncIterator[bytes]:
        yield request

    return aiter(request) if kind.streams_requests else one()


async def _awaited(step: Any, steps: Steps) -> Callable[[], Any]:
    """Await what a step returned, and return how to go on."""
    try:
        return partial(steps.send, await step)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the handler is told
        return partial(steps.throw, error)


def iter_of(*messages: bytes) -> Steps:
    """Return the steps of a handler that just sends messages."""
    yield from messages
