"""What a client hears of changes, in either era of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

from mcp.client.subscriptions import ToolsListChanged
from mcp_types import ResourceUpdatedNotification, ToolListChangedNotification

from .clients import MODERN, PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.client.client import Client

TOOLS = "tools"


class Ear:
    """Hears of resources by their URIs, and of tools."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[str] = asyncio.Queue()
        self._streaming = False

    async def __call__(self, message: Any) -> None:
        """Take what an older client is told; given to it as its handler of messages."""
        if self._streaming:
            return  # it is heard on the stream as well
        if isinstance(message, ResourceUpdatedNotification):
            self._heard.put_nowait(str(message.params.uri))
        elif isinstance(message, ToolListChangedNotification):
            self._heard.put_nowait(TOOLS)

    async def next(self) -> str:
        """Wait for the next notification."""
        return await asyncio.wait_for(self._heard.get(), PATIENCE)

    @contextlib.asynccontextmanager
    async def on(self, client: Client, *uris: str, tools: bool = False) -> AsyncIterator[Ear]:
        """Hear of these until the end of the block."""
        if client.protocol_version == MODERN:
            self._streaming = True
            async with client.listen(
                tools_list_changed=tools, resource_subscriptions=uris
            ) as stream:
                listening = asyncio.create_task(self._listen(stream))
                yield self
                listening.cancel()
                await asyncio.wait([listening])
            return
        for uri in uris:
            await subscribe(client, uri)
        yield self
        for uri in uris:
            await unsubscribe(client, uri)

    async def _listen(self, stream: Any) -> None:
        async for event in stream:
            self._heard.put_nowait(TOOLS if isinstance(event, ToolsListChanged) else event.uri)


async def subscribe(client: Client, uri: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        await client.subscribe_resource(uri)


async def unsubscribe(client: Client, uri: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        await client.unsubscribe_resource(uri)
