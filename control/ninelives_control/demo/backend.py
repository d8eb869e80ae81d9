"""A backend of the demo: a real gRPC server behind a server stack, with faults on demand."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from ninelives_grpc import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ninelives_grpc import Stack

SERVICE = "ninelives.demo.Shop"
PRICE, BROWSE, UPLOAD, CHAT = (
    f"/{SERVICE}/{name}" for name in ("Price", "Browse", "Upload", "Chat")
)
_BROWSED = 3


@dataclass(slots=True)
class Faults:
    """What is wrong with a backend right now.

    Attributes:
        error_rate: Share of calls that fail with UNAVAILABLE, 0..1.
        delay: Seconds that every call takes longer.
    """

    error_rate: float = 0.0
    delay: float = 0.0

    def describe(self) -> str:
        """Say it in a few words."""
        words = []
        if self.error_rate:
            words.append(f"{self.error_rate:.0%} errors")
        if self.delay:
            words.append(f"+{self.delay * 1000:.0f} ms")
        return ", ".join(words) or "healthy"


class Backend:
    """A server with one method of each kind; it can be killed and started again on its port.

    Attributes:
        name: What it is called on the screen.
        faults: What is wrong with it.
        address: Where it listens, once started.
    """

    def __init__(self, name: str, stack: Stack) -> None:
        """Protect the server with a stack."""
        self.name = name
        self.faults = Faults()
        self.address = ""
        self._stack = stack
        self._server: grpc.aio.Server | None = None

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._server is not None

    async def start(self) -> None:
        """Listen, on the same port as the last time."""
        if self._server is not None:
            return
        server = grpc.aio.server(
            interceptors=[aio.server_interceptor(self._stack)],
            options=[("grpc.so_reuseport", 0)],
        )
        server.add_generic_rpc_handlers((self._handlers(),))
        port = server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await server.start()
        self._server = server

    async def kill(self) -> None:
        """Stop at once; calls under way fail, new ones are not even connected."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    def _handlers(self) -> grpc.GenericRpcHandler:
        codec: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Price": grpc.unary_unary_rpc_method_handler(self._price, **codec),
                "Browse": grpc.unary_stream_rpc_method_handler(self._browse, **codec),
                "Upload": grpc.stream_unary_rpc_method_handler(self._upload, **codec),
                "Chat": grpc.stream_stream_rpc_method_handler(self._chat, **codec),
            },
        )

    async def _price(self, request: StringValue, context: Any) -> StringValue:
        await self._suffer(context)
        return StringValue(value=f"{request.value}: {random.randint(1, 99)}.90")

    async def _browse(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        await self._suffer(context)
        for number in range(_BROWSED):
            yield StringValue(value=f"{request.value} {number}")

    async def _upload(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        received = [request.value async for request in requests]
        await self._suffer(context)
        return StringValue(value=f"{len(received)} received")

    async def _chat(
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            await self._suffer(context)
            yield StringValue(value=request.value.upper())

    async def _suffer(self, context: Any) -> None:
        """Take a little time, as work does, and then the faults of the moment."""
        faults = self.faults
        await asyncio.sleep(random.uniform(0.002, 0.008) + faults.delay)
        if random.random() < faults.error_rate:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "fault of the demo")
