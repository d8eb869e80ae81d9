"""A protected server whose handlers pass calls on to another one, through a protected channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc import shield, wrap_channel

from .backend import RpcKind
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import LoopThread


class Relaying:
    """Handlers that pass a call on to another server through a protected channel."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._channel: Any = None

    @property
    def next_server(self) -> Any:
        """The method of the next server."""
        if self._channel is None:
            self._channel = self._make()
        return self._channel.unary_unary(RpcKind.UNARY_UNARY.path)

    def unary(self, request: bytes, context: Any) -> bytes:
        del context
        if request == b"shielded":
            with shield():
                return self.next_server(request)
        return self.next_server(request)

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield self.unary(request, context)
        yield self.unary(request, context)

    async def aio_unary(self, request: bytes, context: Any) -> bytes:
        del context
        if request == b"shielded":
            with shield():
                return await self.next_server(request)
        return await self.next_server(request)

    async def aio_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.aio_unary(request, context)
        yield await self.aio_unary(request, context)

    async def aio_write(self, request: bytes, context: Any) -> None:
        await context.write(await self.aio_unary(request, context))
        await context.write(await self.aio_unary(request, context))

    async def close(self) -> None:
        if isinstance(self._channel, grpc.aio.Channel):
            await self._channel.close()
        elif self._channel is not None:
            self._channel.close()


def relay(
    protected: str, target: str, own: Stack, calls: Stack, loop: LoopThread, opened: ExitStack
) -> SyncServer | AioServer:
    """Start a protected server that passes calls on to `target`."""
    threaded = protected in {"sync", "aio-plain"}
    insecure = grpc.insecure_channel if threaded else grpc.aio.insecure_channel
    relaying = Relaying(lambda: wrap_channel(insecure(target), calls))
    opened.callback(lambda: loop.run(relaying.close()))
    unary, stream = (
        (relaying.unary, relaying.stream)
        if threaded
        else (
            relaying.aio_unary,
            relaying.aio_write if protected == "aio-reader-writer" else relaying.aio_stream,
        )
    )
    service = grpc.method_handlers_generic_handler(
        "test.Scripted",
        {
            "unary_unary": grpc.unary_unary_rpc_method_handler(unary),
            "unary_stream": grpc.unary_stream_rpc_method_handler(stream),
        },
    )
    server = (
        SyncServer(service, protection=own)
        if protected == "sync"
        else AioServer(loop, service, protection=own)
    )
    opened.callback(server.close)
    return server
