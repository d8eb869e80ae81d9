"""The official MCP client, over HTTP and over standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from ninelives_control.transports.grpc.connection import Connection
from ninelives_control.transports.mcp.bridge import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import TextIO

NINELIVES = Path(sys.executable).parent / "ninelives"
PATIENCE = 20.0
MODERN, LEGACY = "2026-07-28", "2025-11-25"
MODES = {"auto": MODERN, "legacy": LEGACY}
"""The two eras of the protocol, by what the client calls them."""


@contextlib.asynccontextmanager
async def over_http(url: str, token: str | None, **options: Any) -> AsyncIterator[Client]:
    """Connect to the endpoint at an address; `options` are the client's."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE, verify=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def over_pipes(
    address: str, token: str | None, *, patience: float = PATIENCE, **options: Any
) -> AsyncIterator[Client]:
    """Connect to a bridge in this process, which has pipes for standard input and output."""
    async with Client(_bridge(address, token, patience), **options) as client:
        yield client


@contextlib.asynccontextmanager
async def _bridge(address: str, token: str | None, patience: float) -> AsyncIterator[Any]:
    with contextlib.ExitStack() as files, pytest.MonkeyPatch.context() as patched:
        its_input, our_output = _pipe(files)
        our_input, its_output = _pipe(files)
        patched.setattr(sys, "stdin", its_input)
        patched.setattr(sys, "stdout", its_output)
        arriving, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, leaving = anyio.create_memory_object_stream[SessionMessage](0)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(Connection(address, token, timeout=patience)))
            writing = tasks.create_task(_write(leaving, our_output))
            tasks.create_task(_read(our_input, arriving))
            try:
                yield incoming, outgoing
            finally:
                incoming.close()
                outgoing.close()
                await writing
                our_output.close()
                await serving
                its_output.close()


async def _write(messages: Any, file: TextIO) -> None:
    async with messages:
        async for sent in messages:
            file.write(sent.message.model_dump_json(by_alias=True, exclude_unset=True) + "\n")
            file.flush()


async def _read(file: TextIO, messages: Any) -> None:
    async with messages:
        async for line in anyio.wrap_file(file):
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            with contextlib.suppress(anyio.BrokenResourceError):
                await messages.send(SessionMessage(message))


def _pipe(files: contextlib.ExitStack) -> tuple[TextIO, TextIO]:
    reading, writing = os.pipe()
    return (
        files.enter_context(os.fdopen(reading, encoding="utf-8")),
        files.enter_context(os.fdopen(writing, "w", encoding="utf-8")),
    )


def over_stdio(
    address: str,
    token: str | None,
    *,
    more: Sequence[str] = (),
    errors: TextIO | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[Client]:
    """Start `ninelives mcp` as hosts do and connect to it."""
    server = StdioServerParameters(
        command=str(NINELIVES),
        args=["mcp", "--address", address, *more],
        env={"NINELIVES_TOKEN": token} if token else {},
    )
    errors = errors or sys.__stderr__
    # What pytest has for standard error may be no file.
    assert errors is not None
    return Client(stdio_client(server, errors), **options)


def told(result: Any) -> dict[str, Any]:
    """Return what a tool said of an error."""
    assert result.is_error is True
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def answered(result: Any) -> dict[str, Any]:
    """Return what a tool answered."""
    assert not result.is_error, result.structured_content
    assert isinstance(result.structured_content, dict)
    return result.structured_content
