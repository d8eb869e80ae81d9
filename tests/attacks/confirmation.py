"""Attackers who have seen how a person agreed to something."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from mcp.server import request_state
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

from tests.attacks.attack import Attack
from tests.web.mcp.clients import over_http

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.client.client import Client

    from tests.attacks.world import World

YES = ElicitResult(action="accept", content={"confirm": True})
ERASE = ("mcp erase permission_denied",)


async def _agreeing(_context: Any, _params: Any) -> ElicitResult:
    return YES


async def asked(client: Client) -> str:
    """Ask for something that has to be confirmed, and return the state of that."""
    found = await client.session.call_tool("erase", {"text": "a"}, allow_input_required=True)
    return str(found.request_state)


async def confirmed(client: Client, state: str | None, text: str = "a", tool: str = "erase") -> str:
    """Confirm it."""
    try:
        found = await client.session.call_tool(
            tool,
            {"text": text},
            input_responses={"confirm": YES},
            request_state=state,
            allow_input_required=True,
        )
    except MCPError as error:
        return f"error {error.error.code}"
    return "asked again" if hasattr(found, "input_requests") else "done"


def over_mcp(
    attack: Callable[[World, Client], Awaitable[str]], who: str = "admin"
) -> Callable[[World], str]:
    """Attack with the official client of the newer era."""

    async def main(world: World) -> str:
        url = f"http://127.0.0.1:{world.plane.http_port}"
        token = world.tokens[who]
        async with over_http(url, token, elicitation_callback=_agreeing) as client:
            return await attack(world, client)

    return lambda world: asyncio.run(main(world))


async def _foreign(world: World, client: Client) -> str:
    return await confirmed(client, world.kept["state"])


async def _later(world: World, client: Client) -> str:
    later = SimpleNamespace(time=lambda: time.time() + 3600)
    with patch.object(request_state, "time", later):
        return await confirmed(client, world.kept["state"])


async def _edited(world: World, client: Client) -> str:
    return await confirmed(client, f"{world.kept['state'][:-4]}AAAA")


async def _use(world: World, client: Client) -> str:
    world.kept["state"] = await asked(client)
    return await confirmed(client, world.kept["state"])


async def _ask(world: World, client: Client) -> str:
    world.kept["state"] = await asked(client)
    return ""


CONFIRMATIONS = (
    Attack(
        name="mcp: a confirmation once more",
        before=over_mcp(_use),
        do=over_mcp(_foreign),
        told="error -32602",
        audit=ERASE,
    ),
    Attack(
        name="mcp: a confirmation for other arguments",
        before=over_mcp(_ask),
        do=over_mcp(lambda world, client: confirmed(client, world.kept["state"], "everything")),
        told="error -32602",
        audit=ERASE,
    ),
    Attack(
        name="mcp: the confirmation of somebody else",
        before=over_mcp(_ask),
        do=over_mcp(_foreign, "second"),
        told="error -32602",
        audit=ERASE,
    ),
    Attack(
        name="mcp: a confirmation that comes an hour late",
        before=over_mcp(_ask),
        do=over_mcp(_later),
        told="error -32602",
        audit=ERASE,
    ),
    Attack(
        name="mcp: a confirmation that was edited",
        before=over_mcp(_ask),
        do=over_mcp(_edited),
        told="error -32602",
        audit=ERASE,
    ),
    Attack(
        name="mcp: a confirmation that nobody was asked for",
        do=over_mcp(lambda _world, client: confirmed(client, "asked")),
        told="error -32602",
        audit=ERASE,
    ),
)
