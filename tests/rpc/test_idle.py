"""A stream that has fallen silent is ended, on whichever side it is noticed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, TimedOut, Timeout
from ninelives_grpc.testing import MemorySink

from . import leaks
from .backend import PATIENCE, STALL, Play, RpcKind, expected
from .clients import PROTECTED, REQUESTS, LoopThread, Style, SyncClient
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack
    from ninelives_grpc.testing import VirtualClock

    from .backend import Backend
    from .clients import Client

IDLE = 10.0
every_client = pytest.mark.parametrize("protected", PROTECTED)
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])


@pytest.fixture
def let_time_pass(clock: VirtualClock, loop: LoopThread) -> Callable[[Stack, int], None]:
    """Let time pass, bit by bit, until a limit has run out so often."""

    def has_occurred(stack: Stack, times: int) -> bool:
        if stack.policy("timeout").state(clock.now())["occurred"] == times:
            return True
        # In the loop, as asyncio timeouts belong to it.
        loop.call(clock.advance, IDLE / 10)
        return False

    return lambda stack, times: leaks.eventually(lambda: has_occurred(stack, times), str)


@every_client
@response_streams
def test_stream_that_falls_silent_is_ended_by_its_client(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
    let_time_pass: Callable[[Stack, int], None],
) -> None:
    sink = MemorySink()
    policies = Timeout(3600.0, idle=IDLE) + Bulkhead(8) + CircuitBreaker()
    stack = new_stack(policies, clock=clock, sink=sink)
    client = connect(protected, stack)
    for number, style in enumerate(client.styles(kind), start=1):
        backend.plays(Play(messages=2, stalls=True))
        running = client.start(kind, style)
        running.wait_for_messages(2)

        let_time_pass(stack, number)

        assert running.result().code is StatusCode.DEADLINE_EXCEEDED
        assert isinstance(running.error, TimedOut)
        assert running.messages == expected(kind, REQUESTS, 2)
        assert (running.error.stack, running.error.policy) == (stack.name, "timeout")
        assert "sent no message for 10 s" in str(running.details)
        backend.wait_until_gone(number)
        assert leaks.results(stack) == {("DEADLINE_EXCEEDED", "failure"): number}
    occurred = [event for event in sink.events if event.name == "TimeoutOccurred"]
    assert {(event.details()["limit"], event.details()["idle"]) for event in occurred} == {
        (IDLE, True)
    }


@every_client
@response_streams
def test_stream_that_stays_silent_from_the_start_is_asked_for_again(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
    let_time_pass: Callable[[Stack, int], None],
) -> None:
    stack = new_stack(Retry(2, initial_backoff=0.001) + Timeout(3600.0, idle=IDLE), clock=clock)
    client = connect(protected, stack)
    for number, style in enumerate(client.styles(kind), start=1):
        backend.plays(STALL)
        running = client.start(kind, style)
        backend.wait_until_stalled(number)

        let_time_pass(stack, number)

        assert running.result().error is None
        assert running.messages == expected(kind, REQUESTS)
        assert backend.attempts == 2 * number


@every_client
def test_call_with_one_response_may_take_its_time(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    clock: VirtualClock,
    loop: LoopThread,
) -> None:
    client = connect(protected, new_stack(Timeout(3600.0, idle=IDLE), clock=clock))
    backend.plays(STALL)
    running = client.start(RpcKind.UNARY_UNARY, client.styles(RpcKind.UNARY_UNARY)[0])
    backend.wait_until_stalled()

    loop.call(clock.advance, 2 * IDLE)
    backend.release()

    assert running.result().error is None


class Halting:
    """Handlers that let time pass after their second message, and would then send a third."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def plain(self, request: Any, context: Any) -> Iterator[bytes]:
        yield b"0"
        yield b"1"
        self._clock.advance(IDLE)
        yield b"2"

    async def generate(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"0"
        yield b"1"
        await self._halt()
        yield b"2"

    async def write(self, request: Any, context: Any) -> None:
        await context.write(b"0")
        await context.write(b"1")
        await self._halt()
        await context.write(b"2")

    async def _halt(self) -> None:
        # The limit is set where the handler has to wait for something.
        await asyncio.sleep(0)
        self._clock.advance(IDLE)
        await asyncio.sleep(PATIENCE)


@pytest.mark.parametrize("protected", ["sync", "aio", "aio-writer", "aio-plain"])
@response_streams
def test_stream_that_falls_silent_is_ended_by_its_server(
    protected: str,
    kind: RpcKind,
    new_stack: Callable[..., Stack],
    clock: VirtualClock,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    stack = new_stack(Timeout(3600.0, idle=IDLE) + Bulkhead(8), clock=clock)
    halting = Halting(clock)
    handler = {"aio": halting.generate, "aio-writer": halting.write}.get(protected, halting.plain)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    service = grpc.method_handlers_generic_handler("test.Scripted", {kind: make(handler)})
    server: Any = (
        SyncServer(service, protection=stack)
        if protected == "sync"
        else AioServer(loop, service, protection=stack)
    )
    opened.callback(server.close)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    running = client.start(kind, Style.ITERATE).result()

    # Of a sync handler that reads a stream, gRPC can only cancel the call.
    if (protected, kind) == ("sync", RpcKind.STREAM_STREAM):
        assert running.code is StatusCode.CANCELLED
    else:
        assert running.code is StatusCode.DEADLINE_EXCEEDED
        assert "sent no message for 10 s" in str(running.details)
    assert running.messages == [b"0", b"1"]
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("DEADLINE_EXCEEDED", "failure"): 1}
    assert stack.policy("timeout").state(clock.now())["occurred"] == 1


def test_sync_handler_that_waits_for_a_silent_client_is_woken(
    new_stack: Callable[..., Stack],
    clock: VirtualClock,
    opened: ExitStack,
    let_time_pass: Callable[[Stack, int], None],
) -> None:
    stack = new_stack(Timeout(3600.0, idle=IDLE) + Bulkhead(8), clock=clock)
    silent = threading.Event()
    opened.callback(silent.set)
    woken = threading.Event()

    def echo(requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        try:
            yield from requests
        finally:
            woken.set()

    def requests() -> Iterator[bytes]:
        yield b"one"
        silent.wait(PATIENCE)

    handler = grpc.stream_stream_rpc_method_handler(echo)
    service = grpc.method_handlers_generic_handler("test.Scripted", {"stream_stream": handler})
    server = SyncServer(service, protection=stack)
    opened.callback(server.close)
    channel = opened.enter_context(grpc.insecure_channel(server.target))
    answers: Any = channel.stream_stream(RpcKind.STREAM_STREAM.path)(requests())
    assert next(answers) == b"one"

    let_time_pass(stack, 1)

    assert answers.code() is StatusCode.CANCELLED
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("DEADLINE_EXCEEDED", "failure"): 1}
    assert woken.wait(PATIENCE)
