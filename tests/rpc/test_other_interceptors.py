"""Other interceptors before and after ours: the outer sees the call, the inner every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, Retry, client_interceptors, server_interceptor, wrap_channel
from ninelives_grpc import aio as ninelives_aio

from . import leaks
from .backend import ANSWER, DOWN, Backend, RpcKind, expected
from .clients import REQUESTS, AioClient, LoopThread, SyncClient
from .handlers import async_handlers, plain_handlers
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

every_kind = pytest.mark.parametrize("kind", RpcKind)
AT_ONCE: dict[str, Any] = {"initial_backoff": 0.0, "jitter": "none"}


class Details(NamedTuple):
    """What is told of a call to what comes next."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class Tagging(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds metadata, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.seen = 0

    def _tag(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen += 1
        tagged = (*(details.metadata or ()), ("tag", str(self.seen)))
        told = Details(
            details.method,
            details.timeout,
            tagged,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(told, request)

    intercept_unary_unary = intercept_unary_stream = _tag
    intercept_stream_unary = intercept_stream_stream = _tag


def aio_tagging(kind: RpcKind) -> Any:
    """Return the same for asyncio, where each kind has an interceptor of its own."""

    class AioTagging(getattr(grpc.aio, f"{kind.title().replace('_', '')}ClientInterceptor")):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seen = 0

        async def _tag(self, continuation: Any, details: Any, request: Any) -> Any:
            self.seen += 1
            metadata = grpc.aio.Metadata(*(details.metadata or ()), ("tag", str(self.seen)))
            return await continuation(details._replace(metadata=metadata), request)

    setattr(AioTagging, f"intercept_{kind}", AioTagging._tag)
    AioTagging.__abstractmethods__ = frozenset()
    return AioTagging()


def _sync(layout: str, target: str, stack: Stack, tagging: Tagging) -> grpc.Channel:
    channel, ours = grpc.insecure_channel(target), client_interceptors(stack)
    match layout:
        case "tagging > wrapped":
            return grpc.intercept_channel(wrap_channel(channel, stack), tagging)
        case "wrapped > tagging":
            return wrap_channel(grpc.intercept_channel(channel, tagging), stack)
        case "tagging > interceptor":
            return grpc.intercept_channel(channel, tagging, *ours)
        case _:
            return grpc.intercept_channel(channel, *ours, tagging)


def _aio(layout: str, target: str, stack: Stack, tagging: Any) -> grpc.aio.Channel:
    ours = ninelives_aio.client_interceptors(stack)
    order = {
        "wrapped > tagging": [tagging],
        "tagging > interceptor": [tagging, *ours],
        "interceptor > tagging": [*ours, tagging],
    }[layout]
    channel = grpc.aio.insecure_channel(target, interceptors=order)
    return wrap_channel(channel, stack) if layout.startswith("wrapped") else channel


@pytest.mark.parametrize(
    ("layout", "tags"),
    [
        ("tagging > wrapped", ["1", "1"]),
        ("tagging > interceptor", ["1", "1"]),
        ("wrapped > tagging", ["1", "2"]),
        ("interceptor > tagging", ["1", "2"]),
    ],
)
@every_kind
def test_sync_interceptors_stand_before_or_after_ours(
    layout: str,
    tags: list[str],
    kind: RpcKind,
    target: str,
    backend: Backend,
    new_stack: Callable[..., Stack],
    opened: ExitStack,
) -> None:
    stack, tagging = new_stack(Bulkhead(8) + Retry(**AT_ONCE)), Tagging()
    client = SyncClient(opened.enter_context(_sync(layout, target, stack, tagging)))
    for style in client.styles(kind):
        tagging.seen = 0
        earlier = backend.attempts
        backend.plays(DOWN, ANSWER)

        running = client.start(kind, style).result()

        assert running.messages == expected(kind, REQUESTS)
        assert [visit.metadata["tag"] for visit in backend.visits[earlier:]] == tags


@pytest.mark.parametrize(
    ("layout", "tags"),
    [
        ("tagging > interceptor", ["1", "1"]),
        ("wrapped > tagging", ["1", "2"]),
        ("interceptor > tagging", ["1", "2"]),
    ],
)
@every_kind
def test_asyncio_interceptors_stand_before_or_after_ours(
    layout: str,
    tags: list[str],
    kind: RpcKind,
    target: str,
    backend: Backend,
    new_stack: Callable[..., Stack],
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    stack, tagging = new_stack(Bulkhead(8) + Retry(**AT_ONCE)), aio_tagging(kind)
    client = AioClient(loop, loop.call(_aio, layout, target, stack, tagging))
    opened.callback(client.close)
    for style in client.styles(kind):
        tagging.seen = 0
        earlier = backend.attempts
        backend.plays(DOWN, ANSWER)

        running = client.start(kind, style).result()

        assert running.error is None
        assert running.messages == expected(kind, REQUESTS)
        assert [visit.metadata["tag"] for visit in backend.visits[earlier:]] == tags


def _reject(_: Any, context: Any) -> Any:
    return context.abort(StatusCode.UNAUTHENTICATED, "who are you")


async def _reject_async(_: Any, context: Any) -> None:
    await context.abort(StatusCode.UNAUTHENTICATED, "who are you")


class Guard(grpc.ServerInterceptor):
    """Lets in who has a token."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if "token" in dict(handler_call_details.invocation_metadata):
            return continuation(handler_call_details)
        return grpc.unary_unary_rpc_method_handler(_reject)


class AioGuard(grpc.aio.ServerInterceptor):
    """Lets in who has a token, under asyncio."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if "token" in dict(handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return grpc.unary_unary_rpc_method_handler(_reject_async)


@pytest.mark.parametrize("protected", ["sync", "aio"])
@pytest.mark.parametrize("first", ["guard", "ours"])
def test_server_interceptors_stand_before_or_after_ours(
    protected: str,
    first: str,
    backend: Backend,
    new_stack: Callable[..., Stack],
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    stack = new_stack(Bulkhead(8))
    sync = protected == "sync"
    guard: Any = Guard() if sync else AioGuard()
    ours: Any = server_interceptor(stack) if sync else ninelives_aio.server_interceptor(stack)
    order = (guard, ours) if first == "guard" else (ours, guard)
    server = (
        SyncServer(plain_handlers(backend), interceptors=order)
        if sync
        else AioServer(loop, async_handlers(backend), interceptors=order)
    )
    opened.callback(server.close)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))
    kind = RpcKind.UNARY_UNARY

    rejected = client.start(kind, client.styles(kind)[0]).result()
    let_in = client.start(kind, client.styles(kind)[0], metadata=(("token", "t"),)).result()

    assert rejected.code is StatusCode.UNAUTHENTICATED
    assert let_in.messages == expected(kind, REQUESTS)
    counts = {("OK", "success"): 1}
    if first == "ours":
        counts["UNAUTHENTICATED", "success"] = 1
    leaks.eventually(lambda: leaks.counted(stack) == sum(counts.values()), str)
    assert leaks.results(stack) == counts


@pytest.mark.parametrize("ours", [False, True])
async def test_what_an_interceptor_above_adds_to_the_details_arrives_below(
    ours: bool, target: str, new_stack: Callable[..., Stack]
) -> None:
    class More(grpc.aio.ClientCallDetails):  # type: ignore[misc]
        """Details of an interceptor that has more to say."""

        tenant: str

    seen: list[object] = []

    class Above(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:  # type: ignore[override]
            told = More(*details)
            told.tenant = "t1"
            return await continuation(told, request)

    class Below(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:  # type: ignore[override]
            seen.append(getattr(details, "tenant", None))
            return await continuation(details, request)

    between = ninelives_aio.client_interceptors(new_stack(Bulkhead(8))) if ours else []
    chain = [Above(), *between, Below()]
    async with grpc.aio.insecure_channel(target, interceptors=chain) as channel:
        assert await channel.unary_unary(RpcKind.UNARY_UNARY.path)(b"a") == b"a"

    assert seen == ["t1"]
