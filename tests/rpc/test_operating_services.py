"""What operates a service answers when nothing else does: health, reflection and control."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from ninelives_grpc import Bulkhead, CircuitBreaker, RateLimit, Routes, aio, server_interceptor

from .backend import PATIENCE, RpcKind
from .clients import REQUESTS
from .handlers import plain_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .backend import Backend
    from .clients import LoopThread

CONTROL = "ninelives_control.v1.ControlService"
SHUT = {
    "breaker": lambda: CircuitBreaker(mode="open"),
    "rate limit": lambda: RateLimit(0.001, 1.0),
    "bulkhead": lambda: Bulkhead(1),
}


def control(_: bytes, __: object) -> bytes:
    """Answer in the place of the control service."""
    return b"state"


@pytest.fixture(params=["sync", "aio"])
def serve(
    request: pytest.FixtureRequest, backend: Backend, opened: ExitStack, loop: LoopThread
) -> Callable[[Any], grpc.Channel]:
    """Serve the script, health, reflection and a control service, and return a channel."""
    pool = ThreadPoolExecutor(8, thread_name_prefix="test-server")
    opened.callback(pool.shutdown)
    handler = grpc.unary_unary_rpc_method_handler(control)
    services = (
        plain_handlers(backend),
        grpc.method_handlers_generic_handler(CONTROL, {"Execute": handler}),
    )

    def add(server: Any) -> str:
        server.add_generic_rpc_handlers(services)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        reflection.enable_server_reflection(["test.Scripted"], server)
        return f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"

    def make(protection: Any) -> grpc.Channel:
        if request.param == "sync":
            server: Any = grpc.server(pool, interceptors=[server_interceptor(protection)])
            address = add(server)
            server.start()
            opened.callback(lambda: server.stop(None).wait())
        else:

            async def start() -> tuple[Any, str]:
                interceptor = aio.server_interceptor(protection)
                served = grpc.aio.server(pool, interceptors=[interceptor])
                bound = add(served)
                await served.start()
                return served, bound

            server, address = loop.run(start())
            opened.callback(lambda: loop.run(server.stop(None)))
        return opened.enter_context(grpc.insecure_channel(address))

    return make


def operate(channel: grpc.Channel) -> Iterator[object]:
    """Ask each of the services, and give what they answer."""
    checked = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(), timeout=PATIENCE
    )
    yield checked.status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (listed,) = stub.ServerReflectionInfo(iter([asked]), timeout=PATIENCE)
    yield "test.Scripted" in {each.name for each in listed.list_services_response.service}
    method: Any = channel.unary_unary(f"/{CONTROL}/Execute")
    yield method(b"", timeout=PATIENCE) == b"state"


@pytest.mark.parametrize("shut", SHUT)
def test_a_server_that_refuses_everything_can_still_be_operated(
    shut: str, serve: Callable[..., grpc.Channel], new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(SHUT[shut]())
    channel = serve(stack)
    method: Any = channel.unary_unary(RpcKind.UNARY_UNARY.path)
    if shut == "rate limit":
        assert method(REQUESTS[0], timeout=PATIENCE)
    if shut == "bulkhead":
        stack.parameters["bulkhead/max_concurrent"].set(1, by="test")
        stack.call(_while_held, channel)
        return

    with pytest.raises(grpc.RpcError) as refused:
        method(REQUESTS[0], timeout=PATIENCE)

    assert refused.value.code() in {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
    assert all(operate(channel))


def _while_held(channel: grpc.Channel) -> None:
    """Operate the server while its only place is taken."""
    method: Any = channel.unary_unary(RpcKind.UNARY_UNARY.path)
    with pytest.raises(grpc.RpcError) as refused:
        method(REQUESTS[0], timeout=PATIENCE)
    assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert all(operate(channel))


def test_routes_may_protect_them_all_the_same(
    serve: Callable[..., grpc.Channel], new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(CircuitBreaker(mode="open"))
    channel = serve(Routes({"grpc.health.v1.Health/*": stack}))

    with pytest.raises(grpc.RpcError) as refused:
        next(operate(channel))

    assert refused.value.code() is StatusCode.UNAVAILABLE
