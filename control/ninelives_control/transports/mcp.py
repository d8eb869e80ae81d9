"""An MCP server with a tool for each command, wherever the commands run."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, ListToolsResult

from ninelives_control.command import Effect
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import MAX_PAGE
from ninelives_control.transports.mcp_confirm import unconfirmed
from ninelives_control.transports.mcp_tools import failed, succeeded, tool_of

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import (
        CallToolRequestParams,
        CallToolResult,
        InputRequiredResult,
        PaginatedRequestParams,
    )

    Context = ServerRequestContext[Any, Any]

_LOGGER = logging.getLogger("ninelives_control")
_NAME = "ninelives"
_INSTRUCTIONS = (
    "Reads and tunes the resilience policies (retry, circuit breaker, bulkhead, ...) around the "
    "gRPC calls of a running program. Begin with list_stacks and get_state. A parameter has an "
    "address, stack/policy/parameter; get_parameter tells its value, bounds and revision, and "
    "set_parameter with dry_run checks a change before it is made."
)


class Desk(Protocol):
    """Where commands are handed in for the client of a request."""

    def effect(self, command: str) -> Effect | None:
        """Return what a command does, or None if that has to be asked for."""

    def principal(self, context: Context) -> str:
        """Return a word for who the client is, that tells nothing else to anybody."""

    async def execute(
        self, command: str, arguments: dict[str, Any], context: Context
    ) -> dict[str, Any]:
        """Run a command and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """


def server_for(desk: Desk) -> Server[Any]:
    """Return an MCP server whose tools are the commands of a desk."""
    tools = _Tools(desk)
    server: Server[Any] = Server(
        _NAME,
        version=version("ninelives-grpc"),
        instructions=_INSTRUCTIONS,
        # No argument of a command travels in a header, so there is nothing to be looked up.
        get_tool_input_schema=lambda _name: None,
        on_list_tools=tools.all,
        on_call_tool=tools.call,
    )
    security = RequestStateSecurity.ephemeral()
    security.bind_principal = desk.principal
    server.middleware.append(RequestStateBoundary(security, default_audience=_NAME))
    return server


class _Tools:
    """Answers what clients ask about tools."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def all(
        self, context: Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Return the commands that the client may use, if not everywhere."""
        try:
            infos = await self._infos(context)
        except CommandError as error:
            raise _protocol_error(INVALID_REQUEST, error) from None
        return ListToolsResult(tools=[tool_of(info) for info in infos if info["allowed"]])

    async def call(
        self, context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Run a command, once it is confirmed if it can not be undone."""
        try:
            if await self._must_be_confirmed(params.name, context):
                wanted = await unconfirmed(context, params)
                if wanted is not None:
                    return wanted
            return succeeded(await self._desk.execute(params.name, params.arguments or {}, context))
        except CommandError as error:
            # Of those the protocol has a form of its own; all others are for the model to read.
            if error.code is Code.UNKNOWN_COMMAND:
                raise _protocol_error(INVALID_PARAMS, error) from None
            if error.code is Code.UNAUTHENTICATED:
                raise _protocol_error(INVALID_REQUEST, error) from None
            return failed(error)
        except MCPError:
            raise
        except Exception:
            # The SDK would tell its text to the client.
            _LOGGER.exception("an answer could not be sent over MCP")
            message = "the answer could not be sent; the log of the MCP server says why"
            return failed(CommandError(Code.INTERNAL, message))

    async def _must_be_confirmed(self, name: str, context: Context) -> bool:
        """Tell whether a person has to be asked; not for what would be refused anyway."""
        if self._desk.effect(name) in {Effect.READ, Effect.CHANGE}:
            return False
        return any(
            info["name"] == name and info["allowed"] and info["effect"] == Effect.DESTRUCTIVE
            for info in await self._infos(context)
        )

    async def _infos(self, context: Context) -> list[dict[str, Any]]:
        found = await self._desk.execute("list_commands", {"limit": MAX_PAGE}, context)
        infos: list[dict[str, Any]] = found["commands"]
        return infos


def _protocol_error(code: int, error: CommandError) -> MCPError:
    return MCPError(code, error.message, {"code": str(error.code)})
