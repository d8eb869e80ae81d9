"""Servers of every kind behind one interface, and a wire that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc import AdmissionExecutor, Stack, aio, server_interceptor

from .handlers import async_handlers, plain_handlers

if TYPE_CHECKING:
    from ninelives_grpc import Routes

    from .backend import Backend
    from .clients import LoopThread

WORKERS = 16
LOOPBACK = "127.0.0.1"


class SyncServer:
    """A sync server on loopback.

    Attributes:
        target: Its address.
    """

    def __init__(
        self,
        *handlers: grpc.GenericRpcHandler,
        protection: Stack | Routes | None = None,
        interceptors: tuple[grpc.ServerInterceptor, ...] = (),
        options: Any = None,
        port: int = 0,
    ) -> None:
        queued = isinstance(protection, Stack) and "admission_queue" in protection.policies
        make_pool = AdmissionExecutor if queued else ThreadPoolExecutor
        self._pool = make_pool(WORKERS, thread_name_prefix="test-server")
        if protection is not None:
            interceptors = (*interceptors, server_interceptor(protection))
        self.server = grpc.server(self._pool, interceptors=interceptors, options=options)
        self.server.add_generic_rpc_handlers(handlers)
        self.target = f"{LOOPBACK}:{self.server.add_insecure_port(f'{LOOPBACK}:{port}')}"
        self.server.start()

    def close(self) -> None:
        """Stop it, and wait for its threads."""
        self.server.stop(None).wait()
        self._pool.shutdown()


class AioServer:
    """An asyncio server on loopback, in the loop of a `LoopThread`.

    Attributes:
        target: Its address.
    """

    def __init__(
        self,
        loop: LoopThread,
        *handlers: grpc.GenericRpcHandler,
        protection: Stack | Routes | None = None,
        interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
        port: int = 0,
    ) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="test-server")
        if protection is not None:
            interceptors = (*interceptors, aio.server_interceptor(protection))

        async def start() -> None:
            self.server = grpc.aio.server(self._pool, interceptors=interceptors)
            self.server.add_generic_rpc_handlers(handlers)
            self.target = f"{LOOPBACK}:{self.server.add_insecure_port(f'{LOOPBACK}:{port}')}"
            await self.server.start()

        loop.run(start())

    def close(self) -> None:
        """Stop it, and wait for its threads."""
        self._loop.run(self.server.stop(None))
        self._pool.shutdown()


Server = SyncServer | AioServer


def sync_server(backend: Backend, stack: Stack, _: LoopThread) -> Server:
    return SyncServer(plain_handlers(backend), protection=stack)


def aio_server(backend: Backend, stack: Stack, loop: LoopThread) -> Server:
    return AioServer(loop, async_handlers(backend), protection=stack)


def aio_reader_writer(backend: Backend, stack: Stack, loop: LoopThread) -> Server:
    handlers = async_handlers(backend, reader_writer=True)
    return AioServer(loop, handlers, protection=stack)


def aio_plain(backend: Backend, stack: Stack, loop: LoopThread) -> Server:
    return AioServer(loop, plain_handlers(backend), protection=stack)


PROTECTED: dict[str, Any] = {
    "sync": sync_server,
    "aio": aio_server,
    "aio-reader-writer": aio_reader_writer,
    "aio-plain": aio_plain,
}
"""How a server can be protected, by the nature of its handlers."""


class Wire:
    """Carries bytes between a client and a server, until it is cut.

    Attributes:
        target: Where clients connect to.
        carried: Bytes so far, both ways.
    """

    def __init__(self, target: str) -> None:
        self.carried = 0
        host, _, port = target.rpartition(":")
        self._address = (host, int(port))
        self._listener = socket.create_server((LOOPBACK, 0))
        self.target = f"{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def cut(self) -> None:
        """Break every connection, and take no more."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _begin(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, name="test-wire", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._address)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [near, far]
                self._begin(self._carry, near, far)
                self._begin(self._carry, far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                self.carried += len(chunk)
                sink.sendall(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
