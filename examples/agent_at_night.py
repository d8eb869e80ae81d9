"""An agent looks after a slow backend over MCP: it finds out, tries, lends, watches, and is done.

What it decides here in code, a model decides by itself: it reads the same, and has the same tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx2
from backends import slow_server
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from ninelives_control import ControlPlane, Role
from ninelives_control.identity import tokens
from ninelives_grpc import CircuitBreaker, Registry, Retry, Stack, Timeout, wrap_channel

STACK = "ninelives://stacks/prices"
LIMIT = "prices/attempt/seconds"
CALLERS = 4


async def look_after_prices(client: Client) -> None:
    """Find out what is wrong, and do something about it that ends by itself."""
    print("tools:", ", ".join(tool.name for tool in (await client.list_tools()).tools[:3]), "...")

    # What is wrong?
    timed_out = await timeouts(client, seconds=30, limit=15)
    (stack,) = (await read(client, "ninelives://metrics"))["stacks"]
    failing = 1 - stack["traffic"]["backend_success_rate"]
    print(f"{failing * 3:.0f} of 3 attempts fails: {timed_out[-1]['why']}")
    prices = await read(client, STACK)
    (limit,) = [each for each in prices["parameters"] if each["path"] == LIMIT]
    print(f"{prices['expression']}: the limit is {limit['value']} {limit['unit']}")

    # What would help? Trying changes nothing, and the control plane says what it thinks of it.
    for value in (2.0, 0.8, 0.6):
        tried = await use(client, "set_parameter", path=LIMIT, value=value, dry_run=True)
        problems = tried.get("findings", [tried])
        print(f"{value}?", *[problem["message"] for problem in problems] or ["good"])

    # The value returns by itself, whatever becomes of the agent.
    change = {"path": LIMIT, "value": value, "expected_revision": limit["revision"]}
    async with client.listen(resource_subscriptions=[STACK]) as changes:
        reason = "the backend is slow tonight"
        lent = await use(client, "set_parameter", **change, lease=2.0, reason=reason)
        await anext(changes)
        print(f"lent: {lent['new']} in place of {lent['old']}")
        timed_out = await timeouts(client, seconds=1, limit=20)
        print("timeouts:", "only of calls before" if len(timed_out) <= CALLERS else "still")
        await anext(changes)
    print("returned:", (await use(client, "get_parameter", path=LIMIT))["value"])


async def read(client: Client, uri: str) -> Any:
    """Read a resource as it is now."""
    (content,) = (await client.read_resource(uri, cache_mode="bypass")).contents
    return json.loads(content.text)


async def use(client: Client, tool: str, **arguments: object) -> Any:
    """Use a tool, and return what it answers, or says of an error."""
    return (await client.call_tool(tool, arguments)).structured_content


async def timeouts(client: Client, seconds: float, limit: int) -> list[dict[str, Any]]:
    """Wait for so many timeouts, or so long."""
    kinds = ["TimeoutOccurred"]
    return (await use(client, "watch_events", kinds=kinds, seconds=seconds, limit=limit))["events"]


async def agent(url: str, token: str) -> None:
    """Connect, and go to work."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        await look_after_prices(client)


def ask(channel: grpc.Channel, enough: threading.Event) -> None:
    """Call the backend again and again."""
    price = channel.unary_unary("/shop.Shop/Price")
    while not enough.is_set():
        with contextlib.suppress(grpc.RpcError):
            price(b"tea")


def main(folder: Path) -> None:
    """Have a backend that is slow, callers, and somebody who sees to it."""
    registry = Registry()
    attempts = Retry(3) + CircuitBreaker() + Timeout(0.2, name="attempt")
    stack = Stack("prices", Timeout(2.0) + attempts, registry=registry)
    token = tokens.create(folder / "tokens.json", "night-watch", Role.AGENT)
    enough = threading.Event()
    with (
        ControlPlane(registry, grpc_port=None, http_port=0, tokens=folder / "tokens.json") as plane,
        slow_server() as address,
        wrap_channel(grpc.insecure_channel(address), stack) as channel,
        futures.ThreadPoolExecutor(CALLERS) as callers,
    ):
        for _ in range(CALLERS):
            callers.submit(ask, channel, enough)
        try:
            asyncio.run(agent(f"http://{plane.host}:{plane.http_port}/mcp", token))
        finally:
            enough.set()
        for entry in plane.execute("get_audit").entries:
            print(f"audit: {entry.identity} {entry.command} {entry.status} by {entry.rule}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
