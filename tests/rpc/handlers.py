"""The scripted service in the forms that gRPC knows.

Plain functions, coroutine functions with async generators, and stream handlers that read and write
through their context.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import grpc
from grpc import StatusCode, aio

from ninelives_grpc import TimedOut, current_call

from .backend import RpcKind, message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .backend import Backend, Play, Visit


def plain_handlers(backend: Backend) -> grpc.GenericRpcHandler:
    """Return the service as plain functions."""

    def make(kind: RpcKind) -> Any:
        def requests_of(request: Any) -> Iterator[bytes]:
            return request if kind.streams_requests else iter((request,))

        def stream(request: Any, context: Any) -> Iterator[bytes]:
            yield from _serve(backend, kind, requests_of(request), context)

        def unary(request: Any, context: Any) -> bytes:
            return b"".join(_serve(backend, kind, requests_of(request), context))

        return stream if kind.streams_responses else unary

    return _service(make)


def _serve(
    backend: Backend, kind: RpcKind, requests: Iterator[bytes], context: Any
) -> Iterator[bytes]:
    visit, play = backend.begin(kind, context)
    try:
        if play.initial is not None:
            context.send_initial_metadata(play.initial)
        for request in requests if play.reads != 0 else ():
            backend.take(visit, request)
            if len(visit.requests) == play.reads:
                break
        for number in range(play.messages if kind.streams_responses else 0):
            yield message(number, visit)
        if play.stalls:
            if context.add_callback(visit.leave) is False:
                visit.leave()
            backend.note(visit, stalled=True)
            _wait(visit)
        _end(play, context)
        if not kind.streams_responses:
            yield visit.answer()
    except CancelledError:
        backend.note(visit, gone=True)
    except (GeneratorExit, TimedOut, grpc.RpcError):
        # The last is what the requests of a call raise that is over.
        backend.note(visit, gone=True)
        raise
    finally:
        backend.note(visit, ended=True)


def _wait(visit: Visit) -> None:
    """Wait for the test, as a handler does that asks now and then whether anyone waits for it."""
    while True:
        try:
            return visit.gate.result(0.005)
        except TimeoutError:
            served = current_call()
            if served is not None:
                served.check()


def _end(play: Play, context: Any) -> Any:
    """End as the play says; under asyncio, what is returned is to be awaited."""
    if play.raises is not None:
        raise play.raises(play.details)
    if play.trailing:
        context.set_trailing_metadata(play.trailing)
    return None if play.code is StatusCode.OK else context.abort(play.code, play.details)


def async_handlers(backend: Backend, *, reader_writer: bool = False) -> grpc.GenericRpcHandler:
    """Return the service as coroutine functions, with async generators or reading and writing."""

    def make(kind: RpcKind) -> Any:
        def serve(request: Any, context: Any) -> Any:
            requests = _requests(request, context, kind, reader_writer=reader_writer)
            return contextlib.aclosing(_serve_async(backend, kind, requests, context))

        async def generate(request: Any, context: Any) -> AsyncIterator[bytes]:
            async with serve(request, context) as messages:
                async for message in messages:
                    yield message

        async def write(request: Any, context: Any) -> None:
            async with serve(request, context) as messages:
                async for message in messages:
                    await context.write(message)

        async def unary(request: Any, context: Any) -> bytes:
            async with serve(request, context) as messages:
                return b"".join([message async for message in messages])

        if not kind.streams_responses:
            return unary
        return write if reader_writer else generate

    return _service(make)


async def _requests(
    request: Any, context: Any, kind: RpcKind, *, reader_writer: bool
) -> AsyncIterator[bytes]:
    if not kind.streams_requests:
        yield request
    elif reader_writer:
        while (message := await context.read()) is not aio.EOF:
            yield message
    else:
        async for message in request:
            yield message


async def _serve_async(
    backend: Backend, kind: RpcKind, requests: AsyncIterator[bytes], context: Any
) -> AsyncIterator[bytes]:
    visit, play = backend.begin(kind, context)
    try:
        if play.initial is not None:
            await context.send_initial_metadata(play.initial)
        if play.reads != 0:
            async for request in requests:
                backend.take(visit, request)
                if len(visit.requests) == play.reads:
                    break
        for number in range(play.messages if kind.streams_responses else 0):
            yield message(number, visit)
        if play.stalls:
            backend.note(visit, stalled=True)
            await asyncio.wrap_future(visit.gate)
        aborted = _end(play, context)
        if aborted is not None:
            await aborted
        if not kind.streams_responses:
            yield visit.answer()
    except (asyncio.CancelledError, GeneratorExit):
        backend.note(visit, gone=True)
        raise
    finally:
        backend.note(visit, ended=True)


def _service(make: Callable[[RpcKind], Any]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "test.Scripted",
        {kind: getattr(grpc, f"{kind}_rpc_method_handler")(make(kind)) for kind in RpcKind},
    )
