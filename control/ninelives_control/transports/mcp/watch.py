"""A tool that waits and tells what happens meanwhile, for clients that cannot subscribe."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from ninelives_control.command import Effect
from ninelives_control.commands.events import Event
from ninelives_control.errors import invalid
from ninelives_control.model import MAX_PAGE, Result
from ninelives_control.transports.mcp.tools import tool_of
from ninelives_control.watch import WatchEvents

if TYPE_CHECKING:
    from ninelives_control.transports.mcp.desk import Context, Desk

_LONGEST = 60
_TICK = 1.0
"""Seconds between two reports of progress."""


class WatchFor(WatchEvents):
    """What to follow, and for how long."""

    seconds: float = Field(default=10.0, gt=0, le=_LONGEST, description="How long to wait.")
    limit: int = Field(
        default=100, ge=1, le=MAX_PAGE, description="Events after which not to wait any more."
    )


class WatchedFor(Result):
    """What happened."""

    events: list[Event] = Field(description="What policies did, oldest first.")
    dropped: int = Field(description="Events lost, as reading was too slow.")


TOOL = tool_of(
    {
        "name": "watch_events",
        "summary": "Wait up to a minute, and return what policies did meanwhile.",
        "effect": Effect.READ,
        "arguments_schema": json.dumps(WatchFor.model_json_schema()),
        "result_schema": json.dumps(WatchedFor.model_json_schema()),
    }
)
"""The tool; a command of its name could not be called over MCP."""


async def watch_for(desk: Desk, arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    """Collect events, and report progress to a client that wants to know.

    Raises:
        CommandError: The client may not watch, or its arguments are wrong.
    """
    try:
        wanted = WatchFor.model_validate(arguments)
    except ValidationError as error:
        raise invalid(error, WatchFor.model_fields) from None
    collected = _Collected(wanted.limit)
    loop = asyncio.get_running_loop()
    # In a task of its own: a client that goes away could not wait for its end.
    rest = {key: value for key, value in arguments.items() if key not in {"seconds", "limit"}}
    begun = loop.create_future()
    collecting = asyncio.create_task(collected.collect(desk, rest, context, begun))
    try:
        await asyncio.wait([begun, collecting], return_when=asyncio.FIRST_COMPLETED)
        start = loop.time()
        while not collecting.done() and (left := start + wanted.seconds - loop.time()) > 0:
            told = f"{len(collected.events)} events"
            await context.session.report_progress(wanted.seconds - left, wanted.seconds, told)
            await asyncio.wait([collecting], timeout=min(_TICK, left))
    finally:
        begun.cancel()
        collecting.cancel()
    if collecting.done():
        collecting.result()
    return {"events": collected.events[: wanted.limit], "dropped": collected.dropped}


class _Collected:
    """Events, up to so many."""

    def __init__(self, limit: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.dropped = 0
        self._limit = limit

    async def collect(
        self, desk: Desk, wanted: dict[str, Any], context: Context, begun: asyncio.Future[None]
    ) -> None:
        async with contextlib.aclosing(desk.watch(wanted, context)) as told:
            await anext(told)
            if not begun.done():
                begun.set_result(None)
            async for message in told:
                self.events += message["events"]
                self.dropped += message["dropped"]
                if len(self.events) >= self._limit:
                    return
