"""The control plane stops while clients are connected."""

import asyncio
import contextlib
import time

import pytest
from mcp.shared.exceptions import MCPError

from tests.control import added

from .clients import answered


async def test_it_stops_at_once_with_a_session_open(plane, connect):
    with contextlib.suppress(MCPError):
        async with connect("viewer") as client:
            answered(await client.call_tool("list_stacks"))

            await assert_stops_at_once(plane)


@pytest.mark.parametrize("link", ["http auto", "http legacy"], indirect=True)
async def test_it_stops_at_once_while_a_person_is_asked(plane, connect, entries):
    plane.commands.add(added.erase)
    asked = asyncio.Event()

    async def think(context, params):
        asked.set()
        await asyncio.Event().wait()

    with contextlib.suppress(MCPError):
        async with connect("admin", elicitation_callback=think) as client:
            call = asyncio.create_task(client.call_tool("erase"))
            await asyncio.wait_for(asked.wait(), 10)
            audit = plane.dispatcher._journal._audit.entries()

            await assert_stops_at_once(plane)
            call.cancel()
            await asyncio.wait([call])

    assert audit == []


async def assert_stops_at_once(plane):
    begun = time.monotonic()
    await asyncio.wait_for(asyncio.to_thread(plane.stop), 10)
    # Half of what the SDK waits for a client that does not answer any more.
    assert time.monotonic() - begun < 2.5
