"""A load of clients behind a client stack."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from ninelives_control.demo.backend import BROWSE, CHAT, PRICE, UPLOAD
from ninelives_grpc import wrap_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ninelives_grpc import Stack

_TIMEOUT = 2.0


class Load:
    """Calls a backend at a rate, mostly its unary method, and now and then each of the others.

    Attributes:
        rate: Calls a second.
    """

    def __init__(self, stack: Stack, address: str, rate: float) -> None:
        """Protect the channel to a backend with a stack."""
        self.rate = rate
        options = [
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._channel = wrap_channel(grpc.aio.insecure_channel(address, options), stack)
        codec: tuple[Any, Any] = (StringValue.SerializeToString, StringValue.FromString)
        self._price = self._channel.unary_unary(PRICE, *codec)
        self._browse = self._channel.unary_stream(BROWSE, *codec)
        self._upload = self._channel.stream_unary(UPLOAD, *codec)
        self._chat = self._channel.stream_stream(CHAT, *codec)
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Call until cancelled; a call does not wait for the one before it."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            *[self._call_price] * 7,
            self._call_browse,
            self._call_upload,
            self._call_chat,
        )
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(random.expovariate(self.rate))
            task = loop.create_task(_forgiven(random.choice(kinds)))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Cancel what is under way and close the channel."""
        for task in tuple(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._channel.close()

    async def _call_price(self) -> None:
        await self._price(StringValue(value="tea"), timeout=_TIMEOUT)

    async def _call_browse(self) -> None:
        async for _ in self._browse(StringValue(value="tea"), timeout=_TIMEOUT):
            pass

    async def _call_upload(self) -> None:
        await self._upload(_words(), timeout=_TIMEOUT)

    async def _call_chat(self) -> None:
        async for _ in self._chat(_words(), timeout=_TIMEOUT):
            pass


async def _words() -> AsyncIterator[StringValue]:
    for word in ("one", "two", "three"):
        yield StringValue(value=word)


async def _forgiven(call: Callable[[], Awaitable[None]]) -> None:
    """Make a call whose failure is part of the show."""
    with contextlib.suppress(grpc.RpcError):
        await call()
