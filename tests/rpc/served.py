"""One handler on a bare and on a protected server, and what its client sees of each."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import operator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest

from ninelives_grpc import AdmissionExecutor, Stack, aio, server_interceptor

from . import idle
from .backend import PATIENCE, RpcKind
from .clients import CALLERS, REQUESTS
from .servers import LOOPBACK, WORKERS
from .steps import AIO, NATURES, READER_WRITER, SYNC, handler

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from .clients import LoopThread
    from .steps import Body

STREAMS = (RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM)
EVERY = [
    (nature, kind)
    for nature, kind in product(NATURES, RpcKind)
    if kind.streams_responses or nature != READER_WRITER
]
every_handler = pytest.mark.parametrize(("nature", "kind"), EVERY)
every_server = pytest.mark.parametrize("nature", [SYNC, AIO])
every_kind = pytest.mark.parametrize("kind", RpcKind)
idle_stacks = pytest.mark.parametrize(
    "policies", [pytest.param(policies, id=name) for name, policies in idle.SERVER.items()]
)
"""Policies that have nothing to do in these tests."""


def method_handler(kind: RpcKind, behaviour: Any, **options: Any) -> Any:
    """Return gRPC's handler of a method."""
    return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour, **options)


def service(kind: RpcKind, behaviour: Any = None, **named: Any) -> grpc.GenericRpcHandler:
    """Return a service of methods of one kind: one with the name of the kind, or several."""
    named = named or {kind: behaviour}
    methods = {name: method_handler(kind, each) for name, each in named.items()}
    return grpc.method_handlers_generic_handler("test.Scripted", methods)


class Seen(NamedTuple):
    """What a client sees of a call."""

    headers: list[tuple[str, Any]]
    messages: list[Any]
    code: grpc.StatusCode
    details: str
    trailers: list[tuple[str, Any]]


def start(
    channel: grpc.Channel,
    kind: RpcKind,
    requests: Any = REQUESTS,
    *,
    path: str = "",
    registered: bool = False,
    **options: Any,
) -> Any:
    """Start a call, and return gRPC's call object."""
    method = getattr(channel, kind)(path or kind.path, _registered_method=registered)
    request = iter(requests) if kind.streams_requests else requests[0]
    return (method if kind.streams_responses else method.future)(request, **options)


def seen(call: Any, kind: RpcKind) -> Seen:
    """Wait for the end of a call, and tell what came of it."""
    messages: list[Any] = []
    with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
        if kind.streams_responses:
            messages.extend(call)
        else:
            messages.append(call.result(PATIENCE))
    headers = [tuple(pair) for pair in call.initial_metadata() or ()]
    trailers = [tuple(pair) for pair in call.trailing_metadata() or ()]
    return Seen(headers, messages, call.code(), call.details(), trailers)


@dataclass
class Side:
    """A server, and a channel to it.

    Attributes:
        server: gRPC's server.
        channel: A bare sync channel.
        loop: Where an asyncio server lives; None for a sync one.
    """

    server: Any
    channel: grpc.Channel
    loop: LoopThread | None

    def start(self, kind: RpcKind, requests: Any = REQUESTS, **options: Any) -> Any:
        """Start a call, and return gRPC's call object."""
        return start(self.channel, kind, requests, **options)

    def look(self, kind: RpcKind, requests: Any = REQUESTS, **options: Any) -> Seen:
        """Make a call, and tell what came of it."""
        return seen(start(self.channel, kind, requests, timeout=PATIENCE, **options), kind)

    def do(self, work: Callable[[Any], Any]) -> Any:
        """Do something with the server, where it may be done, and await what is to be awaited."""
        if self.loop is None:
            return work(self.server)

        async def done() -> Any:
            result = work(self.server)
            return await result if inspect.isawaitable(result) else result

        return self.loop.run(done())

    def close(self) -> None:
        """Stop at once."""
        self.stop(None).result(PATIENCE)

    def stop(self, grace: float | None) -> Future[Any]:
        """Begin to stop; the future is done when the server has stopped."""
        if self.loop is None:
            stopped = self.server.stop(grace)
            return CALLERS.submit(stopped.wait, PATIENCE)
        stopping = asyncio.run_coroutine_threadsafe(self.server.stop(grace), self.loop.loop)
        for _ in range(3):
            self.loop.call(int)
        return stopping


class Sides:
    """Makes servers in pairs, the first bare and the second protected."""

    def __init__(self, nature: str, loop: LoopThread, opened: ExitStack, stack: Stack) -> None:
        self.loop = None if nature == SYNC else loop
        self.stack = stack
        self._opened = opened

    def of(
        self,
        configure: Callable[[Any], Any] | None = None,
        *services: grpc.GenericRpcHandler,
        before: tuple[Any, ...] = (),
        after: tuple[Any, ...] = (),
        connect: Callable[[str], grpc.Channel] = grpc.insecure_channel,
        **options: Any,
    ) -> list[Side]:
        """Start two servers; `configure` is given each of them, and may return its port.

        Interceptors are put before and after ours.
        """
        make = server_interceptor if self.loop is None else aio.server_interceptor
        library: Any = grpc if self.loop is None else grpc.aio
        sides = []
        for ours in ((), (make(self.stack),)):
            queued = ours and "admission_queue" in self.stack.policies
            make_pool = AdmissionExecutor if queued else ThreadPoolExecutor
            pool = make_pool(WORKERS, thread_name_prefix="test-server")
            self._opened.callback(pool.shutdown)

            def begin(pool: Any, interceptors: Any) -> tuple[Any, int]:
                server = library.server(pool, interceptors=interceptors, **options)
                server.add_generic_rpc_handlers(services)
                port = None if configure is None else configure(server)
                return server, port or server.add_insecure_port(f"{LOOPBACK}:0")

            made = (begin, pool, (*before, *ours, *after))
            server, port = begin(*made[1:]) if self.loop is None else self.loop.call(*made)
            channel = self._opened.enter_context(connect(f"{LOOPBACK}:{port}"))
            sides.append(Side(server, channel, self.loop))
            sides[-1].do(operator.methodcaller("start"))
            self._opened.callback(sides[-1].close)
        return sides


def of_each(
    nature: str, kind: RpcKind, bodies: dict[str, Body], sides: Sides, **options: Any
) -> list[dict[str, Seen]]:
    """Serve each of the bodies by a method of its name, and tell what is seen on either side."""
    methods = {name: handler(nature, kind, body) for name, body in bodies.items()}
    return [
        {name: side.look(kind, path=f"/test.Scripted/{name}", **options) for name in bodies}
        for side in sides.of(None, service(kind, **methods))
    ]


def pair(
    nature: str,
    policies: Callable[[], Any],
    loop: LoopThread,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> Sides:
    """Return servers in pairs; a module makes a fixture of it."""
    return Sides(nature, loop, opened, new_stack(policies()))
