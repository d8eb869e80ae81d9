"""A server says no before it spends a worker, or the reading of a request, on the call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    EarlyDrop,
    LoadShed,
    RateLimit,
    Respond,
    Routes,
    aio,
    server_interceptor,
)
from ninelives_grpc.testing import MemorySink

from . import leaks
from .backend import PATIENCE, STALL, Backend, RpcKind
from .clients import REQUESTS, LoopThread
from .handlers import async_handlers, plain_handlers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack
    from ninelives_grpc.call import Call

every_kind = pytest.mark.parametrize("kind", RpcKind)
BUSY = "/test.Scripted/unary_unary"


class Reading:
    """Counts the requests that a server has read."""

    def __init__(self) -> None:
        self.requests = 0

    def deserialize(self, request: bytes) -> bytes:
        self.requests += 1
        return request

    def handlers(self, served: Any) -> Any:
        """Return handlers of another service that do as the scripted ones, and count."""
        methods = {}
        for kind in RpcKind:
            handler = served.service(_Details(kind.path))
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            methods[f"{kind}"] = make(getattr(handler, kind), self.deserialize, None)
        return grpc.method_handlers_generic_handler("test.Limited", methods)


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def path(kind: RpcKind) -> str:
    return f"/test.Limited/{kind}"


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def starved(
    backend: Backend, reading: Reading, opened: ExitStack
) -> Callable[[Stack], grpc.Channel]:
    """Return a channel to a sync server whose only worker is taken by a call of another service."""

    def make(stack: Stack) -> grpc.Channel:
        pool = opened.enter_context(ThreadPoolExecutor(1))
        routes = Routes({"test.Limited/*": stack})
        server = grpc.server(pool, interceptors=[server_interceptor(routes)])
        scripted = plain_handlers(backend)
        server.add_generic_rpc_handlers((scripted, reading.handlers(scripted)))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        opened.callback(lambda: server.stop(None).wait())
        opened.callback(backend.release)
        channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        backend.plays(STALL)
        busy: Any = channel.unary_unary(BUSY)
        opened.callback(busy.future(REQUESTS[0]).cancel)
        backend.wait_until_stalled()
        return channel

    return make


def _nothing() -> None:
    """Take what a rate limit has left."""


def _weight(call: Call) -> float:
    assert call.request == REQUESTS[0]
    return 1.0


def _ask(channel: grpc.Channel, kind: RpcKind, metadata: Any = ()) -> Any:
    """Make a call that is to be refused, and return its error."""
    method = getattr(channel, kind)(path(kind))
    request = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]

    def messages() -> list[bytes]:
        answer = method(request, timeout=PATIENCE, metadata=metadata)
        return list(answer) if kind.streams_responses else [answer]

    with pytest.raises(grpc.RpcError) as caught:
        messages()
    return caught.value


@every_kind
def test_rate_limit_refuses_while_every_worker_is_busy(
    kind: RpcKind, starved: Any, reading: Reading, new_stack: Callable[..., Stack]
) -> None:
    sink = MemorySink()
    stack = new_stack(RateLimit(0.01), sink=sink)
    channel = starved(stack)
    stack.call(_nothing)

    error = _ask(channel, kind)

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert 0 < int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) <= 100_000
    assert reading.requests == 0
    assert [type(event).__name__ for event in sink.events][-2:] == [
        "RateLimitRefused",
        "RequestFailed",
    ]
    assert leaks.results(stack)["RESOURCE_EXHAUSTED", "refused"] == 1


@every_kind
def test_load_shed_refuses_while_every_worker_is_busy(
    kind: RpcKind, starved: Any, reading: Reading, new_stack: Callable[..., Stack]
) -> None:
    # Chance lets one call in ten thousand in.
    stack = new_stack(LoadShed(sources=[], cut=0.0, min_share=1e-4))
    stack.policy("load_shed").feel({"memory": 0.95}, 0.0)  # type: ignore[attr-defined]
    channel = starved(stack)

    error = _ask(channel, kind)

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "memory is at 95%" in error.details()
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    assert reading.requests == 0


def test_early_drop_refuses_while_every_worker_is_busy(
    starved: Any, reading: Reading, new_stack: Callable[..., Stack]
) -> None:
    channel = starved(new_stack(EarlyDrop(gauge=lambda: 2.0)))

    error = _ask(channel, RpcKind.UNARY_UNARY)

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "the gauge fills up" in error.details()
    assert reading.requests == 0


def test_open_circuit_refuses_while_every_worker_is_busy(
    starved: Any, reading: Reading, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(Bulkhead(4) + CircuitBreaker())
    channel = starved(stack)
    stack.parameters["circuit_breaker/mode"].set("open")

    error = _ask(channel, RpcKind.UNARY_UNARY)

    assert error.code() is StatusCode.UNAVAILABLE
    assert "forced open" in error.details()
    assert reading.requests == 0


def test_tenant_over_its_quota_is_refused_and_another_is_not(
    starved: Any, backend: Backend, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(RateLimit(0.01, scope="metadata:x-tenant"))
    channel = starved(stack)
    call = channel.unary_unary(path(RpcKind.UNARY_UNARY))
    first = call.future(REQUESTS[0], metadata=[("x-tenant", "a")])
    backend.release()
    assert first.result(PATIENCE)

    error = _ask(channel, RpcKind.UNARY_UNARY, [("x-tenant", "a")])

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "'a'" in error.details()
    assert call(REQUESTS[0], metadata=[("x-tenant", "b")], timeout=PATIENCE)


@pytest.mark.parametrize("limit", [RateLimit(0.01, scope="peer"), RateLimit(0.01, weight=_weight)])
def test_limit_that_needs_the_peer_or_the_request_answers_where_the_handler_runs(
    limit: RateLimit, starved: Any, backend: Backend, reading: Reading, new_stack: Any
) -> None:
    channel = starved(new_stack(limit))
    call = channel.unary_unary(path(RpcKind.UNARY_UNARY))
    calls = [call.future(REQUESTS[0]) for _ in range(2)]
    backend.release()

    outcomes = {started.code() for started in calls}

    assert outcomes == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
    assert reading.requests == 2


def test_refusal_behind_a_fallback_is_left_to_it(
    starved: Any, backend: Backend, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(RateLimit(0.01) | Respond(b"instead"))
    channel = starved(stack)
    stack.call(_nothing)
    started = channel.unary_unary(path(RpcKind.UNARY_UNARY)).future(REQUESTS[0])
    backend.release()

    assert started.result(PATIENCE) == b"instead"


@every_kind
def test_asyncio_server_refuses_without_reading_the_request(
    kind: RpcKind,
    reading: Reading,
    backend: Backend,
    loop: LoopThread,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(RateLimit(0.01))

    async def start() -> Any:
        server = grpc.aio.server(interceptors=[aio.server_interceptor(stack)])
        server.add_generic_rpc_handlers((reading.handlers(async_handlers(backend)),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = loop.run(start())
    opened.callback(lambda: loop.run(server.stop(None)))
    channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
    stack.call(_nothing)

    error = _ask(channel, kind)

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    assert reading.requests == 0


def test_full_bulkhead_refuses_while_its_place_is_taken(
    starved: Any, reading: Reading, backend: Backend, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(Bulkhead(1))
    channel = starved(stack)
    bulkhead: Any = stack.policy("bulkhead")
    place = bulkhead.admit(None, 0.0, None)

    error = _ask(channel, RpcKind.UNARY_UNARY)

    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "is full" in error.details()
    assert reading.requests == 0
    bulkhead.take_back(place, 0.0)
    backend.release()
    answer = channel.unary_unary(path(RpcKind.UNARY_UNARY))(REQUESTS[0], timeout=PATIENCE)
    assert answer == REQUESTS[0]
