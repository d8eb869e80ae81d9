"""Credentials, compression and generated stubs on asyncio channels."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import LocalConnectionType, StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from .aio_sides import (
    STACKS,
    Side,
    both,
    connect,
    every_kind,
    every_stack,
    every_way,
    many,
    messages,
    outcome,
    pairs,
    silence,
)
from .backend import Backend, RpcKind, expected
from .clients import REQUESTS
from .handlers import plain_handlers
from .servers import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Stack

GZIP = {"compression": grpc.Compression.Gzip}
SECURE = grpc.local_channel_credentials(LocalConnectionType.UDS)
"""gRPC trusts a local socket with credentials, as it trusts TLS."""


@pytest.fixture
def secured() -> Iterator[tuple[str, Backend]]:
    """A server that asks for local credentials, with gRPC's own services beside the script."""
    backend = Backend()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((plain_handlers(backend),))
        served = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(served, server)
        reflection.enable_server_reflection(["test.Scripted"], server)
        address = f"unix:{folder}/s"
        server.add_secure_port(address, grpc.local_server_credentials(LocalConnectionType.UDS))
        server.start()
        yield address, backend
        served.enter_graceful_shutdown()
        server.stop(None).wait()


class Plugin(grpc.AuthMetadataPlugin):
    """Signs a call with its method, or can not."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def __call__(self, context: Any, callback: Any) -> None:
        callback((("signed", context.method_name),), self._error)


def _start(channel: grpc.aio.Channel, kind: RpcKind, **options: Any) -> Any:
    method = getattr(channel, kind)(kind.path)
    return method(many() if kind.streams_requests else REQUESTS[0], **options)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("where", ["call", "channel"])
async def test_secure_channel_sends_the_credentials_of_calls(
    kind: RpcKind,
    way: str,
    policies: str,
    where: str,
    secured: tuple[str, Backend],
    new_stack: Callable[..., Stack],
) -> None:
    target, backend = secured
    signature = grpc.metadata_call_credentials(Plugin())
    whole = grpc.composite_channel_credentials(SECURE, signature)
    for stack in (None, new_stack(STACKS[policies]())):
        credentials = whole if where == "channel" else SECURE
        async with connect(way, stack, target, credentials) as channel:
            call = _start(channel, kind, credentials=signature if where == "call" else None)

            assert await messages(call, kind) == expected(kind, REQUESTS)
    assert [visit.metadata.get("signed") for visit in backend.visits] == [kind] * 2


@every_kind
@every_way
@every_stack
async def test_credentials_that_can_not_be_had_fail_the_call_alike(
    kind: RpcKind,
    way: str,
    policies: str,
    secured: tuple[str, Backend],
    new_stack: Callable[..., Stack],
) -> None:
    target, backend = secured
    unsigned = grpc.metadata_call_credentials(Plugin(ValueError("no key")))
    told = []
    for stack in (None, new_stack(STACKS[policies]())):
        async with connect(way, stack, target, SECURE) as channel:
            over, method = asyncio.Event(), getattr(channel, kind)(kind.path)
            # Without a request of a stream, as gRPC fails writing by chance.
            request = silence(over) if kind.streams_requests else REQUESTS[0]
            call = method(request, credentials=unsigned)
            told.append((await outcome(messages(call, kind)), await call.code()))
            over.set()

    assert told[1] == told[0]
    assert told[0][1] is not StatusCode.OK
    assert backend.attempts == 0


@every_way
@every_stack
async def test_generated_stubs_work(
    way: str, policies: str, secured: tuple[str, Backend], new_stack: Callable[..., Stack]
) -> None:
    told = []
    for stack in (None, new_stack(STACKS[policies]())):
        async with connect(way, stack, secured[0], SECURE) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            checked = await stub.Check(health_pb2.HealthCheckRequest())
            unknown = await outcome(stub.Check(health_pb2.HealthCheckRequest(service="no")))
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
            watched = await watch.read()
            watch.cancel()
            listed = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter((reflection_pb2.ServerReflectionRequest(list_services=""),))
            )
            told.append((checked, unknown, watched, [answer async for answer in listed]))

    assert told[1] == told[0]
    assert told[0][0].status == health_pb2.HealthCheckResponse.SERVING
    assert "test.Scripted" in str(told[0][3])


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("where", ["call", "channel"])
async def test_requests_are_compressed(
    kind: RpcKind, way: str, policies: str, where: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        with contextlib.ExitStack() as at_end:
            wire = Wire(side.target)
            at_end.callback(wire.cut)
            protection = None if len(told) == 0 else stack
            on_channel: Any = GZIP if where == "channel" else {}
            on_call: Any = GZIP if where == "call" else {}
            async with connect(way, protection, wire.target, **on_channel) as channel:
                method = getattr(channel, kind)(kind.path, response_deserializer=len)
                request = b"x" * 1_000_000
                sent = iter((request,)) if kind.streams_requests else request
                call = method(sent, **on_call)
                answers: Any = await messages(call, kind)
                # The server does not compress what it answers.
                told.append(wire.carried - sum(answers) < 100_000)
            return answers, told[-1], pairs(await call.trailing_metadata())

    told: list[bool] = []
    stack = new_stack(STACKS[policies]())
    theirs, ours = await both(way, stack, tell)

    assert ours == theirs
    assert theirs[1]
