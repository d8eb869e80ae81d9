"""A protected handler ends a call as it would without us, and its end is understood."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Respond

from . import idle, leaks
from .backend import PATIENCE, RpcKind
from .clients import LoopThread, Running, Style, SyncClient
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

SERVERS = ["sync", "aio", "aio-plain"]
every_server = pytest.mark.parametrize("protected", SERVERS)
every_kind = pytest.mark.parametrize("kind", RpcKind)
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])


def _abort(context: Any) -> Any:
    context.set_trailing_metadata((("reason", "a"),))
    return context.abort(StatusCode.FAILED_PRECONDITION, "aborted")


def _set_code(context: Any) -> None:
    context.set_code(StatusCode.UNAVAILABLE)
    context.set_details("set")
    context.set_trailing_metadata((("reason", "b"),))


def _raise(_: Any) -> None:
    msg = "a mistake"
    raise ValueError(msg)


def _raise_with_code(context: Any) -> None:
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("with a code")
    raise ValueError


def _answer(context: Any) -> None:
    context.set_trailing_metadata((("reason", "c"),))


ENDINGS: dict[str, tuple[Callable[[Any], Any], StatusCode, str]] = {
    "aborts": (_abort, StatusCode.FAILED_PRECONDITION, "success"),
    "sets a code": (_set_code, StatusCode.UNAVAILABLE, "failure"),
    "raises": (_raise, StatusCode.UNKNOWN, "failure"),
    "raises with a code": (_raise_with_code, StatusCode.NOT_FOUND, "success"),
    "answers": (_answer, StatusCode.OK, "success"),
}
"""What a handler does without reading its requests, the client's code, and what that teaches."""


def _handler(protected: str, kind: RpcKind, end: Callable[[Any], Any]) -> Any:
    def unary(_: Any, context: Any) -> bytes:
        end(context)
        return b"answer"

    def stream(_: Any, context: Any) -> Iterator[bytes]:
        # gRPC asks for the next message while the loop still sends this one: no time to abort.
        if protected == "sync" or end is not _abort:
            yield b"first"
        end(context)

    async def aio_unary(_: Any, context: Any) -> bytes:
        awaitable = end(context)
        if awaitable is not None:
            await awaitable
        return b"answer"

    async def aio_stream(_: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await aio_unary(_, context)

    if protected == "aio":
        return aio_stream if kind.streams_responses else aio_unary
    return stream if kind.streams_responses else unary


@pytest.fixture
def serve_with(loop: LoopThread, opened: ExitStack) -> Callable[..., SyncClient]:
    """Serve one method by a handler, and return a client of it."""

    def make(protected: str, kind: RpcKind, handler: Any, stack: Stack | None) -> SyncClient:
        method = getattr(grpc, f"{kind}_rpc_method_handler")(handler)
        service = grpc.method_handlers_generic_handler("test.Scripted", {kind: method})
        server = (
            SyncServer(service, protection=stack)
            if protected == "sync"
            else AioServer(loop, service, protection=stack)
        )
        opened.callback(server.close)
        return SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    return make


def _seen(running: Running) -> Any:
    running.result()
    if running.error is None:
        return running.messages
    return running.messages, running.code, running.details, running.trailing


@every_server
@every_kind
@pytest.mark.parametrize("ending", ENDINGS)
def test_handler_ends_a_call_as_it_would_without_protection(
    protected: str,
    kind: RpcKind,
    ending: str,
    serve_with: Callable[..., SyncClient],
    new_stack: Callable[..., Stack],
) -> None:
    end, code, result = ENDINGS[ending]
    stack = new_stack(Bulkhead(8) + CircuitBreaker())
    seen = []
    for protection in (None, stack):
        handler = _handler(protected, kind, end)
        client = serve_with(protected, kind, handler, protection)
        running = client.start(kind, client.styles(kind)[-1])
        seen.append(_seen(running))
        assert running.code is code

    assert seen[1] == seen[0]
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {(code.name, result): 1}


# In the migration pool gRPC itself may wait for ever for somebody to take a message.
@pytest.mark.parametrize("protected", ["sync", "aio"])
@response_streams
@pytest.mark.parametrize("reads", [0, 1])
def test_generator_is_closed_when_its_client_goes(
    protected: str,
    kind: RpcKind,
    reads: int,
    serve_with: Callable[..., SyncClient],
    new_stack: Callable[..., Stack],
) -> None:
    stack, closed = new_stack(Bulkhead(8)), threading.Event()

    def endless(*_: Any) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    async def aio_endless(*_: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    handler = aio_endless if protected == "aio" else endless
    client = serve_with(protected, kind, handler, stack)
    method = getattr(client.channel, kind)(kind.path)
    call = method(iter((b"a",)) if kind.streams_requests else b"a")
    next(call)
    for _ in range(reads):
        next(call)

    call.cancel()

    assert closed.wait(PATIENCE)
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
def test_nothing_takes_the_place_of_a_handler_that_has_written(
    kind: RpcKind, serve_with: Callable[..., SyncClient], new_stack: Callable[..., Stack]
) -> None:
    async def write(_: Any, context: Any) -> None:
        await context.write(b"first")
        await context.abort(StatusCode.UNAVAILABLE, "broken")

    async def raise_after_writing(_: Any, context: Any) -> None:
        await context.write(b"first")
        _raise(context)

    for handler, code in (
        (write, StatusCode.UNAVAILABLE),
        (raise_after_writing, StatusCode.UNKNOWN),
    ):
        stack = new_stack(Bulkhead(8) | Respond([b"instead"]))
        client = serve_with("aio", kind, handler, stack)

        running = client.start(kind, Style.ITERATE).result()

        assert (running.messages, running.code) == ([b"first"], code)


@pytest.mark.parametrize("refused", [False, True], ids=["served", "answered-locally"])
def test_handler_that_pushes_its_messages_is_served(
    refused: bool, serve_with: Callable[..., SyncClient], new_stack: Callable[..., Stack]
) -> None:
    def push_three(_: bytes, __: Any, push: Callable[[Any], None]) -> None:
        for number in range(3):
            push(b"%d" % number)
        push(None)

    push_three.experimental_non_blocking = True  # type: ignore[attr-defined]
    gate = CircuitBreaker(mode="open") if refused else CircuitBreaker()
    stack = new_stack(Bulkhead(8) + gate | Respond([b"instead"]))
    client = serve_with("sync", RpcKind.UNARY_STREAM, push_three, stack)

    running = client.start(RpcKind.UNARY_STREAM, Style.ITERATE).result()

    assert running.error is None
    assert running.messages == ([b"instead"] if refused else [b"0", b"1", b"2"])
    assert leaks.results(stack) == {("OK", "success"): 1}


@pytest.mark.parametrize("kind", RpcKind)
def test_handler_with_a_thread_pool_of_its_own_runs_in_it(
    kind: RpcKind,
    serve_with: Callable[..., SyncClient],
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    threads = []

    def handle(request: Any, _: Any) -> Any:
        threads.append(threading.current_thread().name)
        last = list(request)[-1] if kind.streams_requests else request
        return iter([last]) if kind.streams_responses else last

    own = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="own"))
    handle.experimental_thread_pool = own  # type: ignore[attr-defined]
    client = serve_with("sync", kind, handle, new_stack(idle.SERVER["gates"]()))

    running = client.start(kind, SyncClient.styles(kind)[-1], [b"a"]).result()

    assert running.messages == [b"a"]
    assert threads == ["own_0"]


def test_handler_on_a_sync_server_may_cancel_its_own_call(
    serve_with: Callable[..., SyncClient], new_stack: Callable[..., Stack]
) -> None:
    def cancel(request: bytes, context: Any) -> bytes:
        over = threading.Event()
        context.add_callback(over.set)
        context.cancel()
        assert over.wait(10)
        return request

    stack = new_stack(Bulkhead(8))
    client = serve_with("sync", RpcKind.UNARY_UNARY, cancel, stack)

    running = client.start(RpcKind.UNARY_UNARY, Style.FUTURE).result()

    assert running.code is StatusCode.CANCELLED
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("CANCELLED", "ignored"): 1}


@every_server
def test_context_of_a_protected_handler_has_what_it_always_has(
    protected: str, serve_with: Callable[..., SyncClient], new_stack: Callable[..., Stack]
) -> None:
    told: list[Any] = []

    def ask(request: bytes, context: Any) -> bytes:
        told.append(
            (
                dict(tuple(context.invocation_metadata()))["tenant"],
                context.peer().startswith("ipv4:"),
                context.peer_identities(),
                0 < context.time_remaining() < 11,
            )
        )
        return request

    async def aio_ask(request: bytes, context: Any) -> bytes:
        return ask(request, context)

    kind = RpcKind.UNARY_UNARY
    handler = aio_ask if protected == "aio" else ask
    for protection in (None, new_stack(Bulkhead(8))):
        client = serve_with(protected, kind, handler, protection)
        running = client.start(kind, Style.FUTURE, timeout=10, metadata=(("tenant", "a"),))
        assert running.result().error is None

    assert told[1] == told[0] == ("a", True, None, True)
