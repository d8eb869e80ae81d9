"""A time limit of a server ends a response stream, also one that always has another message."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, Timeout

from . import leaks
from .backend import PATIENCE, RpcKind
from .clients import LoopThread, Style, SyncClient
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack
    from ninelives_grpc.testing import VirtualClock

LIMIT = 10.0
SERVERS = ["sync", "aio", "aio-reader-writer", "aio-plain"]


class Counting:
    """Handlers that count on for ever; after two numbers the limit passes.

    Attributes:
        closed: Set when a handler has run what it has to at its end.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.closed = threading.Event()
        self._clock = clock

    def _numbers(self) -> Iterator[bytes]:
        try:
            for number in itertools.count():
                yield b"%d" % number
                if number == 1:
                    self._clock.advance(LIMIT)
        finally:
            self.closed.set()

    def plain(self, request: Any, context: Any) -> Iterator[bytes]:
        yield from self._numbers()

    async def generate(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        numbers = self._numbers()
        try:
            for number in numbers:
                yield number
        finally:
            numbers.close()

    async def write(self, request: Any, context: Any) -> None:
        numbers = self._numbers()
        try:
            for number in numbers:
                await context.write(number)
                await asyncio.sleep(0)
        finally:
            numbers.close()

    def of(self, protected: str) -> Any:
        """Return the handler for a kind of server."""
        return {"aio": self.generate, "aio-reader-writer": self.write}.get(protected, self.plain)


@pytest.mark.parametrize("protected", SERVERS)
@pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
def test_stream_ends_at_the_limit_of_the_server(
    protected: str,
    kind: RpcKind,
    new_stack: Callable[..., Stack],
    clock: VirtualClock,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    stack = new_stack(Timeout(LIMIT) + Bulkhead(8), clock=clock)
    counting = Counting(clock)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    service = grpc.method_handlers_generic_handler(
        "test.Scripted", {kind: make(counting.of(protected))}
    )
    server = (
        SyncServer(service, protection=stack)
        if protected == "sync"
        else AioServer(loop, service, protection=stack)
    )
    opened.callback(server.close)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    running = client.start(kind, Style.ITERATE).result()

    assert running.code is StatusCode.DEADLINE_EXCEEDED
    assert stack.name in str(running.details)
    assert running.messages in ([b"0", b"1"], [b"0", b"1", b"2"])
    assert counting.closed.wait(PATIENCE)
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("DEADLINE_EXCEEDED", "failure"): 1}
    assert stack.policy("timeout").state(clock.now())["occurred"] == 1
