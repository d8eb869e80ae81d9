"""What can be read under `ninelives://`: stacks, policies, metrics, events and commands, as JSON.

Each resource is made of what commands answer, so that reading it takes the same permission.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import to_json

from ninelives_control.errors import Code, CommandError
from ninelives_control.model import MAX_PAGE
from ninelives_control.transports.mcp.desk import protocol_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp_types import PaginatedRequestParams, ReadResourceRequestParams

    from ninelives_control.transports.mcp.desk import Context, Desk

SCHEME = "ninelives://"
STACKS, METRICS, EVENTS, COMMANDS = (
    f"{SCHEME}{name}" for name in ("stacks", "metrics", "events", "commands")
)
_JSON = "application/json"
_LAST_EVENTS = 200
_MOST_PAGES = 20
_NOT_FOUND = -32002
"""What clients of the older era are told of a resource that is not there."""

_FIXED = (
    Resource(
        uri=STACKS,
        name="stacks",
        title="Stacks",
        description="All stacks, with how their policies are composed.",
        mime_type=_JSON,
    ),
    Resource(
        uri=METRICS,
        name="metrics",
        title="Metrics",
        description="How calls went over the last minute, and what policies did about it.",
        mime_type=_JSON,
    ),
    Resource(
        uri=EVENTS,
        name="events",
        title="Events",
        description=f"What policies did lately: the last {_LAST_EVENTS} events, oldest first.",
        mime_type=_JSON,
    ),
    Resource(
        uri=COMMANDS,
        name="commands",
        title="Commands",
        description="All commands, with the schemas of their arguments and results.",
        mime_type=_JSON,
    ),
)
_TEMPLATES = (
    ResourceTemplate(
        uri_template=f"{STACKS}/{{stack}}",
        name="stack",
        title="Stack",
        description="A stack: how it is composed, its policies, parameters, state and traffic.",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        uri_template=f"{STACKS}/{{stack}}/{{policy}}",
        name="policy",
        title="Policy",
        description="A policy: what it does, its parameters with their bounds, and its state.",
        mime_type=_JSON,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a URI names.

    Attributes:
        name: The first name, such as stacks.
        stack: The stack, or "".
        policy: The policy in it, or "".
    """

    name: str
    stack: str = ""
    policy: str = ""


def place_of(uri: str) -> Place | None:
    """Return what a URI names; None if there can be nothing of the kind."""
    if not uri.startswith(SCHEME):
        return None
    name, *below = (unquote(part) for part in uri.removeprefix(SCHEME).split("/"))
    known = f"{SCHEME}{name}" in {STACKS, METRICS, EVENTS, COMMANDS}
    most = len(("stack", "policy")) if name == "stacks" else 0
    if not known or len(below) > most or not all(below):
        return None
    return Place(name=name, **dict(zip(("stack", "policy"), below, strict=False)))


class Resources:
    """Answers what clients ask about resources."""

    def __init__(self, desk: Desk) -> None:
        """Make them of what a desk answers."""
        self._desk = desk
        self._fixed: dict[str, Callable[[Context], Awaitable[dict[str, Any]]]] = {
            "stacks": lambda context: self._ask("list_stacks", context, limit=MAX_PAGE),
            "metrics": lambda context: self._ask("get_metrics", context),
            "events": self._events,
            "commands": lambda context: self._ask("list_commands", context, limit=MAX_PAGE),
        }

    async def all(
        self, context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """Return what there is, every stack included."""
        try:
            found = await self._ask("list_stacks", context, limit=MAX_PAGE)
        except CommandError as error:
            raise protocol_error(error) from None
        stacks = [
            Resource(
                uri=f"{STACKS}/{quote(stack['name'], safe='')}",
                name=stack["name"],
                title=f"Stack {stack['name']}",
                description=stack["expression"],
                mime_type=_JSON,
            )
            for stack in found["stacks"]
        ]
        return ListResourcesResult(resources=[*_FIXED, *stacks])

    async def templates(
        self, _context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """Return the forms that URIs have."""
        return ListResourceTemplatesResult(resource_templates=list(_TEMPLATES))

    async def read(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Return a resource as JSON."""
        uri = str(params.uri)
        place = place_of(uri)
        if place is None:
            raise not_found(uri, context)
        try:
            text = to_json(await self._read(place, context)).decode()
        except CommandError as error:
            # Names that no stack can have are as good as those that none has.
            if error.code in {Code.NOT_FOUND, Code.INVALID_ARGUMENT}:
                raise not_found(uri, context, error.message) from None
            raise protocol_error(error) from None
        return ReadResourceResult(
            contents=[TextResourceContents(uri=uri, mime_type=_JSON, text=text)]
        )

    async def _read(self, place: Place, context: Context) -> dict[str, Any]:
        if place.policy:
            path = f"{place.stack}/{place.policy}"
            return await self._ask("describe_policy", context, path=path)
        if place.stack:
            return await self._stack(place.stack, context)
        return await self._fixed[place.name](context)

    async def _stack(self, name: str, context: Context) -> dict[str, Any]:
        policies = await self._ask("list_policies", context, stack=name, limit=MAX_PAGE)
        parameters = await self._ask("list_parameters", context, stack=name, limit=MAX_PAGE)
        state = await self._ask("get_state", context, stack=name)
        return {
            "name": name,
            "expression": await self._expression(name, context),
            "policies": policies["policies"],
            "parameters": parameters["parameters"],
            "state": state["stacks"][0],
        }

    async def _expression(self, name: str, context: Context) -> str | None:
        """Return how a stack is composed; None for who may not list all stacks."""
        try:
            found = await self._ask("list_stacks", context, match=glob.escape(name))
        except CommandError as error:
            if error.code is Code.PERMISSION_DENIED:
                return None
            raise
        return next((each["expression"] for each in found["stacks"]), None)

    async def _events(self, context: Context) -> dict[str, Any]:
        """Return the last events; the command returns the first, a page at a time."""
        events: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(_MOST_PAGES):
            page = await self._ask("list_events", context, cursor=cursor, limit=MAX_PAGE)
            events = [*events, *page["events"]][-_LAST_EVENTS:]
            cursor = page["cursor"]
            if not page["more"]:
                break
        return {"events": events, "cursor": cursor}

    async def _ask(self, command: str, context: Context, **arguments: object) -> dict[str, Any]:
        return await self._desk.execute(command, arguments, context)


def not_found(uri: str, context: Context, message: str = "") -> MCPError:
    """Return what a client is told of a resource that is not there."""
    message = message or f"there is no resource {uri[:100]}; list resources and their templates"
    modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    code = INVALID_PARAMS if modern else _NOT_FOUND
    return MCPError(code, message, {"uri": uri, "code": str(Code.NOT_FOUND)})
