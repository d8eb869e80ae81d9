"""An MCP client that is a process of its own: `client.py URL_OR_ADDRESS TOKEN`.

It calls the tools that it reads from standard input as JSON, `[[name, arguments], ...]`, once in
each era of the protocol, and writes what it was told. For an address instead of a URL it starts
`ninelives mcp`, as a host does. Nothing of ninelives is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


def transport(target: str, token: str, http: httpx2.AsyncClient) -> Any:
    """Return the way to a URL, or to the control plane at an address."""
    if target.startswith("http"):
        return streamable_http_client(target, http_client=http)
    server = StdioServerParameters(
        command=str(Path(sys.executable).parent / "ninelives"),
        args=["mcp"],
        env={"NINELIVES_ADDRESS": target, "NINELIVES_TOKEN": token},
    )
    return stdio_client(server)


async def talk(target: str, token: str, calls: list[Any], mode: str) -> dict[str, Any]:
    """Call the tools and return what came of it."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(transport(target, token, http), mode=mode) as client,
    ):
        tools = [tool.name for tool in (await client.list_tools()).tools]
        answers: list[dict[str, Any]] = []
        for name, arguments in calls:
            try:
                result = await client.call_tool(name, arguments)
            except MCPError as error:
                answers.append({"error": error.error.code, "data": error.error.data})
            else:
                answers.append({"is_error": result.is_error, **(result.structured_content or {})})
        return {"version": client.protocol_version, "tools": tools, "answers": answers}


async def main() -> None:
    """Talk in both eras."""
    target, token = sys.argv[1:]
    calls = json.load(sys.stdin)
    told = [await talk(target, token, calls, mode) for mode in ("auto", "legacy")]
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
