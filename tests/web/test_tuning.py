"""A parameter is changed through every transport, while a hundred calls are in flight."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx2
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Bulkhead, CircuitBreaker, Refused, Retry, Stack, Timeout
from ninelives_grpc.aio import client_interceptors
from tests.web.mcp import clients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ninelives_control import ControlPlane
    from ninelives_control.audit.log import Entry

CALLS = 100
PATIENCE = 20.0
MUTATION = """
mutation ($path: String!, $value: ParameterValue) {
  setParameter(path: $path, value: $value) { old new }
}
"""


@dataclass
class Operator:
    """Somebody who changes parameters."""

    plane: ControlPlane
    token: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.plane.grpc_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plane.http_port}"

    @property
    def metadata(self) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self.token}"),)


async def in_process(operator: Operator, path: str, value: float) -> None:
    await operator.plane.aexecute("set_parameter", path=path, value=value)


async def by_typed_rpc(operator: Operator, path: str, value: float) -> None:
    request = pb.SetParameterRequest(path=path, value=Value(number_value=value))
    async with grpc.aio.insecure_channel(operator.address) as channel:
        await ControlServiceStub(channel).SetParameter(request, metadata=operator.metadata)


async def by_execute(operator: Operator, path: str, value: float) -> None:
    request = pb.ExecuteRequest(command="set_parameter")
    ParseDict({"path": path, "value": value}, request.arguments)
    async with grpc.aio.insecure_channel(operator.address) as channel:
        await ControlServiceStub(channel).Execute(request, metadata=operator.metadata)


async def by_graphql(operator: Operator, path: str, value: float) -> None:
    body = {"query": MUTATION, "variables": {"path": path, "value": value}}
    async with httpx2.AsyncClient(base_url=operator.url, timeout=PATIENCE, verify=False) as http:
        answer = await http.post("/graphql", json=body, headers=dict(operator.metadata))
    assert "errors" not in answer.json()


async def by_mcp_over_http(operator: Operator, path: str, value: float) -> None:
    async with clients.over_http(operator.url, operator.token) as client:
        clients.answered(await client.call_tool("set_parameter", {"path": path, "value": value}))


async def by_mcp_over_stdio(operator: Operator, path: str, value: float) -> None:
    async with clients.over_stdio(operator.address, operator.token) as client:
        clients.answered(await client.call_tool("set_parameter", {"path": path, "value": value}))


OPERATOR = ("operator", "operator")
WAYS: dict[str, tuple[Callable[[Operator, str, float], Awaitable[None]], tuple[str, str, str]]] = {
    "in the process": (in_process, ("application", "admin", "local")),
    "gRPC, typed": (by_typed_rpc, (*OPERATOR, "grpc")),
    "gRPC, Execute": (by_execute, (*OPERATOR, "grpc")),
    "GraphQL": (by_graphql, (*OPERATOR, "graphql")),
    "MCP over HTTP": (by_mcp_over_http, (*OPERATOR, "mcp")),
    "MCP over stdio": (by_mcp_over_stdio, (*OPERATOR, "grpc")),
}
"""Each way to change a parameter, and who the audit says it was: name, role and transport."""


class Backend:
    """A server that holds the calls which ask for it."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.all_here, self.released = asyncio.Event(), asyncio.Event()
        self.remaining: float | None = None

    async def call(self, request: bytes, context: Any) -> bytes:
        if request == b"fail":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        if request == b"hold":
            self.held.append(context)
            if len(self.held) == CALLS:
                self.all_here.set()
            await self.released.wait()
        self.remaining = context.time_remaining()
        return request

    @contextlib.asynccontextmanager
    async def serve(self, stack: Stack) -> AsyncIterator[Any]:
        """Listen on loopback; yields the method on a channel that the stack protects."""
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(self.call)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Shop", {"Call": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", interceptors=client_interceptors(stack)
            ) as channel:
                yield channel.unary_unary("/test.Shop/Call")
        finally:
            await server.stop(None)


@pytest.fixture
def shop(registry):
    return Stack(
        "shop",
        Timeout(60.0) + Retry(2, initial_backoff=0.001) + CircuitBreaker() + Bulkhead(CALLS),
        registry=registry,
    )


@pytest.fixture
def operator(plane, tokens):
    return Operator(plane, tokens["operator"])


def known(shop: Stack, now: float) -> dict[str, Any]:
    """Return what the policies know."""
    states = {name: dict(live.state(now)) for name, live in shop.policies.items()}
    del states["bulkhead"]["limit"]
    return states


@contextlib.asynccontextmanager
async def in_flight(shop: Stack) -> AsyncIterator[tuple[Backend, Any]]:
    """Hold a hundred calls while the caller looks around; then they must end as they began."""
    backend = Backend()
    async with backend.serve(shop) as call, asyncio.timeout(PATIENCE):
        for request in (b"fine", b"fail", b"fine"):
            with contextlib.suppress(grpc.RpcError):
                await call(request)
        calls = [asyncio.ensure_future(call(b"hold")) for _ in range(CALLS)]
        await backend.all_here.wait()
        yield backend, call
        assert not any(running.done() for running in calls)
        backend.released.set()
        assert await asyncio.gather(*calls) == [b"hold"] * CALLS


def assert_in_the_audit_once(
    entries: list[Entry], who: tuple[str, str, str], old: float, new: float
) -> None:
    (entry,) = entries
    assert (entry.identity, entry.role, entry.transport) == who
    assert (entry.command, entry.status) == ("set_parameter", "succeeded")
    assert (entry.old, entry.new) == (old, new)


@pytest.mark.parametrize("way", WAYS)
def test_the_next_call_has_room_and_those_in_flight_keep_theirs(way, shop, operator, entries):
    change, who = WAYS[way]

    async def run() -> None:
        async with in_flight(shop) as (_, call):
            with pytest.raises(Refused):
                await call(b"one too many")
            now = shop.clock.now()
            before = known(shop, now)

            await change(operator, "shop/bulkhead/max_concurrent", 120)

            assert known(shop, now) == before
            assert before["bulkhead"]["in_flight"] == CALLS
            assert before["circuit_breaker"]["state"] == "closed"
            assert before["circuit_breaker"]["failures"] > 0
            assert await call(b"next") == b"next"

    asyncio.run(run())

    assert shop.parameters["bulkhead/max_concurrent"].get() == 120
    assert_in_the_audit_once(entries(), who, CALLS, 120)


@pytest.mark.parametrize("way", WAYS)
def test_the_next_call_has_the_new_deadline_and_those_in_flight_keep_theirs(
    way, shop, operator, entries
):
    change, who = WAYS[way]

    async def run() -> None:
        async with in_flight(shop) as (backend, call):
            shop.parameters["bulkhead/max_concurrent"].set(CALLS + 1)
            now = shop.clock.now()
            before = known(shop, now)

            await change(operator, "shop/timeout/seconds", 600.0)

            assert known(shop, now) == before
            assert await call(b"next") == b"next"
            # gRPC rounds what it sends, to whole seconds when there are many.
            assert 500 < backend.remaining < 650
            assert all(0 < context.time_remaining() < 65 for context in backend.held)

    asyncio.run(run())

    assert_in_the_audit_once(entries(), who, 60.0, 600.0)
