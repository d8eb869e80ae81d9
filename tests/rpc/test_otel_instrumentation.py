"""The OpenTelemetry instrumentation of gRPC and ours on one channel or server, in either order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from ninelives_grpc import Bulkhead, Retry, client_interceptors, server_interceptor, wrap_channel
from ninelives_grpc import aio as ninelives_aio
from ninelives_grpc.sinks.otel import SpanSink

from . import leaks
from .backend import ANSWER, DOWN, Backend, RpcKind, expected
from .clients import REQUESTS, AioClient, LoopThread, Style, SyncClient
from .handlers import async_handlers, plain_handlers
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from opentelemetry.sdk.trace import ReadableSpan

    from ninelives_grpc import Stack

instrumentation = pytest.importorskip(
    "opentelemetry.instrumentation.grpc",
    reason="the instrumentation is not installed: pip install opentelemetry-instrumentation-grpc",
)
grpcext = pytest.importorskip("opentelemetry.instrumentation.grpc.grpcext")

every_kind = pytest.mark.parametrize("kind", RpcKind)
AT_ONCE: dict[str, Any] = {"initial_backoff": 0.0, "jitter": "none"}
LAYOUTS = ["tracing > wrapped", "tracing > interceptor", "wrapped > tracing", "ours > tracing"]


class Tracing(NamedTuple):
    """A tracer, and what it has written."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    def wait_for(self, kind: SpanKind, count: int) -> list[ReadableSpan]:
        """Return the spans, of which there are to be so many in a moment."""
        leaks.eventually(lambda: len(self.spans(kind)) >= count, lambda: self.spans(kind))
        return self.spans(kind)


@pytest.fixture
def tracing() -> Tracing:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider, exporter)


def sync_channel(layout: str, target: str, stack: Stack, tracing: Tracing) -> grpc.Channel:
    channel, ours = grpc.insecure_channel(target), client_interceptors(stack)
    traced = instrumentation.client_interceptor(tracing.provider)
    match layout:
        case "tracing > wrapped":
            return grpcext.intercept_channel(wrap_channel(channel, stack), traced)
        case "tracing > interceptor":
            return grpcext.intercept_channel(grpc.intercept_channel(channel, *ours), traced)
        case "wrapped > tracing":
            return wrap_channel(grpcext.intercept_channel(channel, traced), stack)
        case _:
            return grpc.intercept_channel(grpcext.intercept_channel(channel, traced), *ours)


def aio_channel(layout: str, target: str, stack: Stack, tracing: Tracing) -> grpc.aio.Channel:
    ours = ninelives_aio.client_interceptors(stack)
    traced = instrumentation.aio_client_interceptors(tracing.provider)
    order = {
        "wrapped > tracing": traced,
        "tracing > interceptor": [*traced, *ours],
        "ours > tracing": [*ours, *traced],
    }[layout]
    channel = grpc.aio.insecure_channel(target, interceptors=order)
    return wrap_channel(channel, stack) if layout.startswith("wrapped") else channel


@pytest.fixture
def connect_traced(
    target: str, loop: LoopThread, opened: ExitStack, tracing: Tracing
) -> Callable[..., SyncClient | AioClient]:
    def connect(api: str, layout: str, stack: Stack) -> SyncClient | AioClient:
        if api == "sync":
            client: Any = SyncClient(sync_channel(layout, target, stack, tracing))
        else:
            client = AioClient(loop, loop.call(aio_channel, layout, target, stack, tracing))
        opened.callback(client.close)
        return client

    return connect


@pytest.mark.parametrize(
    ("api", "layout"),
    [
        *(("sync", layout) for layout in LAYOUTS),
        *(("aio", layout) for layout in LAYOUTS if layout != "tracing > wrapped"),
    ],
)
@every_kind
def test_a_call_has_one_client_span_outside_of_ours_and_an_attempt_one_inside(
    api: str,
    layout: str,
    kind: RpcKind,
    backend: Backend,
    new_stack: Callable[..., Stack],
    connect_traced: Callable[..., SyncClient | AioClient],
    tracing: Tracing,
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(**AT_ONCE))
    client = connect_traced(api, layout, stack)
    spans = 1 if layout.startswith("tracing") else 2
    for style in client.styles(kind):
        if api == "aio" and style is Style.READ_WRITE and kind is RpcKind.STREAM_UNARY:
            # With or without us: its interceptor waits for the end before the first write.
            continue
        tracing.exporter.clear()
        earlier = backend.attempts
        backend.plays(DOWN, ANSWER)

        running = client.start(kind, style).result()

        assert running.error is None, repr(running.error)
        assert running.messages == expected(kind, REQUESTS)
        written = tracing.wait_for(SpanKind.CLIENT, spans)
        assert [span.name for span in written] == [kind.path] * spans
        parents = [visit.metadata["traceparent"] for visit in backend.visits[earlier:]]
        assert len(parents) == 2
        assert len(set(parents)) == spans


@pytest.mark.parametrize("layout", LAYOUTS)
@every_kind
def test_an_error_passes_through_both_as_it_is(
    layout: str,
    kind: RpcKind,
    backend: Backend,
    new_stack: Callable[..., Stack],
    connect_traced: Callable[..., SyncClient | AioClient],
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(2, **AT_ONCE))
    client = connect_traced("sync", layout, stack)
    for style in client.styles(kind):
        backend.plays(DOWN, DOWN)

        running = client.start(kind, style).result()

        assert running.code is StatusCode.UNAVAILABLE
        assert running.details == "down"


def test_a_stream_that_is_left_ends_its_span_and_gives_its_permit_back(
    target: str, new_stack: Callable[..., Stack], tracing: Tracing
) -> None:
    stack = new_stack(Bulkhead(1))
    with sync_channel("wrapped > tracing", target, stack, tracing) as channel:
        stream = channel.unary_stream(RpcKind.UNARY_STREAM.path)(b"a")
        next(stream)

        stream.cancel()

    assert stream.code() is StatusCode.CANCELLED
    leaks.assert_nothing_held([stack])
    tracing.wait_for(SpanKind.CLIENT, 1)


def test_an_event_of_a_policy_is_written_on_the_span_of_the_instrumentation(
    backend: Backend, target: str, new_stack: Callable[..., Stack], tracing: Tracing
) -> None:
    stack = new_stack(Retry(**AT_ONCE), sink=SpanSink())
    backend.plays(DOWN, ANSWER)
    with sync_channel("tracing > wrapped", target, stack, tracing) as channel:
        channel.unary_unary(RpcKind.UNARY_UNARY.path)(b"a")

    (span,) = tracing.spans(SpanKind.CLIENT)
    assert "ninelives.RetryAttempt" in [event.name for event in span.events]


def test_the_instrumentation_that_patches_grpc_works_on_what_is_wrapped_afterwards(
    target: str, new_stack: Callable[..., Stack]
) -> None:
    traced: list[object] = []
    instrumentor = instrumentation.GrpcInstrumentorClient()
    instrumentor.instrument(request_hook=lambda _, request: traced.append(request))
    try:
        with wrap_channel(grpc.insecure_channel(target), new_stack(Bulkhead(8))) as channel:
            answer = channel.unary_unary(RpcKind.UNARY_UNARY.path)(b"a")
            stream = list(channel.unary_stream(RpcKind.UNARY_STREAM.path)(b"a"))
    finally:
        instrumentor.uninstrument()

    assert traced == [b"a"]
    assert [answer] == expected(RpcKind.UNARY_UNARY, [b"a"])
    assert stream == expected(RpcKind.UNARY_STREAM, [b"a"])


@pytest.mark.parametrize("protected", ["sync", "aio"])
@pytest.mark.parametrize("first", ["tracing", "ours"])
@every_kind
def test_a_served_call_has_one_server_span(
    protected: str,
    first: str,
    kind: RpcKind,
    backend: Backend,
    new_stack: Callable[..., Stack],
    loop: LoopThread,
    opened: ExitStack,
    tracing: Tracing,
) -> None:
    stack = new_stack(Bulkhead(8))
    if protected == "sync":
        traced = instrumentation.server_interceptor(tracing.provider)
        both: Any = (traced, server_interceptor(stack))
    else:
        traced = instrumentation.aio_server_interceptor(tracing.provider)
        both = (traced, ninelives_aio.server_interceptor(stack))
    order = both if first == "tracing" else both[::-1]
    server: SyncServer | AioServer = (
        SyncServer(plain_handlers(backend), interceptors=order)
        if protected == "sync"
        else AioServer(loop, async_handlers(backend), interceptors=order)
    )
    opened.callback(server.close)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))

    running = client.start(kind, client.styles(kind)[0]).result()

    assert running.messages == expected(kind, REQUESTS)
    (span,) = tracing.wait_for(SpanKind.SERVER, 1)
    assert span.name == kind.path
    leaks.eventually(lambda: leaks.counted(stack) == 1, str)
    assert leaks.results(stack) == {("OK", "success"): 1}
