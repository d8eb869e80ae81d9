"""A plain handler that finds nobody waiting for it has not failed: breakers learn nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import Bulkhead, CircuitBreaker, current_call

from . import leaks, servers
from .backend import PATIENCE, RpcKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import LoopThread


class Desk:
    """A handler that reads requests, or works and asks whether anybody waits for it."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def read(self, requests: Iterator[bytes], context: Any) -> bytes:
        for _ in requests:
            self.begun.set()
        # gRPC may take a cancellation for the end of the requests, until it knows better.
        never = threading.Event()
        while context.is_active():
            never.wait(0.001)
        next(requests, None)
        return b"all read"

    def work(self, _request: bytes, _: Any) -> bytes:
        call = current_call()
        assert call is not None
        self.begun.set()
        never = threading.Event()
        while not never.wait(0.001):
            call.check()
        return b"done"

    def read_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield self.read(requests, context)

    def work_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield self.work(request, context)

    def service(self) -> grpc.GenericRpcHandler:
        handlers = {
            RpcKind.UNARY_UNARY: grpc.unary_unary_rpc_method_handler(self.work),
            RpcKind.UNARY_STREAM: grpc.unary_stream_rpc_method_handler(self.work_stream),
            RpcKind.STREAM_UNARY: grpc.stream_unary_rpc_method_handler(self.read),
            RpcKind.STREAM_STREAM: grpc.stream_stream_rpc_method_handler(self.read_stream),
        }
        return grpc.method_handlers_generic_handler("test.Scripted", handlers)


@pytest.mark.parametrize("kind", RpcKind)
@pytest.mark.parametrize("serve", ["sync", "aio"])
def test_client_that_cancels_teaches_the_server_nothing(
    serve: str,
    kind: RpcKind,
    loop: LoopThread,
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    desk, stack = Desk(), new_stack(CircuitBreaker(consecutive_failures=1) + Bulkhead(8))
    server = (
        servers.SyncServer(desk.service(), protection=stack)
        if serve == "sync"
        else servers.AioServer(loop, desk.service(), protection=stack)
    )
    opened.callback(server.close)
    channel = opened.enter_context(grpc.insecure_channel(server.target))
    method = getattr(channel, kind)(kind.path)
    stay = threading.Event()
    opened.callback(stay.set)

    def requests() -> Iterator[bytes]:
        yield b"first"
        stay.wait(PATIENCE)

    request = requests() if kind.streams_requests else b"request"
    call = method(request) if kind.streams_responses else method.future(request)
    assert desk.begun.wait(PATIENCE)

    call.cancel()

    leaks.eventually(lambda: leaks.counted(stack) == 1, lambda: leaks.held(stack))
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}
    assert stack.policy("circuit_breaker").state(stack.clock.now())["state"] == "closed"
