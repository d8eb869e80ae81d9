"""An MCP server with a tool for each command, wherever the commands run."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    ListToolsResult,
    NotificationParams,
    PromptsCapability,
    ResourcesCapability,
    ServerCapabilities,
    ToolsCapability,
)
from pydantic import ValidationError

from ninelives_control.command import Effect
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import MAX_PAGE
from ninelives_control.transports.mcp import watch as mcp_watch
from ninelives_control.transports.mcp.changes import Subscriptions
from ninelives_control.transports.mcp.confirm import Confirmations, DeclinedError
from ninelives_control.transports.mcp.desk import ToldError, protocol_error
from ninelives_control.transports.mcp.prompts import Prompts
from ninelives_control.transports.mcp.resources import Resources
from ninelives_control.transports.mcp.tools import failed, succeeded, tool_of

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
    from mcp_types import (
        CallToolRequestParams,
        CallToolResult,
        InputRequiredResult,
        PaginatedRequestParams,
    )

    from ninelives_control.transports.mcp.desk import Context, Desk

_LOGGER = logging.getLogger("ninelives_control")
_NAME = "ninelives"
_CALL = "tools/call"
_INSTRUCTIONS = (
    "Reads and tunes the resilience policies (retry, circuit breaker, bulkhead, ...) around the "
    "gRPC calls of a running program. Begin with list_stacks and get_state. A parameter has an "
    "address, stack/policy/parameter; get_parameter tells its value, bounds and revision, and "
    "set_parameter with dry_run checks a change before it is made. The same can be read as "
    "resources under ninelives://, and followed; the prompts lead through the usual tasks."
)


class ControlServer(Server[Any]):
    """An MCP server whose tools are the commands of a desk, and whose resources what they answer.

    Args:
        desk: Where commands are handed in.
    """

    def __init__(self, desk: Desk) -> None:
        """Answer what clients ask for."""
        tools, resources, prompts = _Tools(desk), Resources(desk), Prompts()
        subscriptions = Subscriptions(desk)
        super().__init__(
            _NAME,
            version=version("ninelives-grpc"),
            instructions=_INSTRUCTIONS,
            # No argument of a command travels in a header, so there is nothing to be looked up.
            get_tool_input_schema=lambda _name: None,
            on_list_tools=tools.all,
            on_call_tool=tools.call,
            on_list_resources=resources.all,
            on_list_resource_templates=resources.templates,
            on_read_resource=resources.read,
            on_subscribe_resource=subscriptions.subscribe,
            on_unsubscribe_resource=subscriptions.unsubscribe,
            on_subscriptions_listen=subscriptions.listen,
            on_list_prompts=prompts.all,
            on_get_prompt=prompts.get,
        )
        self.add_notification_handler(
            "notifications/initialized", NotificationParams, subscriptions.initialized
        )
        self._tools_change = desk.commands is not None
        self.end_streams = subscriptions.end
        security = RequestStateSecurity.ephemeral()
        security.bind_principal = desk.principal
        self.middleware.append(_masked)
        self.middleware.append(_declined_at(desk))
        self.middleware.append(RequestStateBoundary(security, default_audience=_NAME))

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        """Return what clients can count on: the SDK would promise more to newer ones."""
        found = super().get_capabilities(
            notification_options,
            experimental_capabilities,
            extensions,
            protocol_version=protocol_version,
        )
        return found.model_copy(
            update={
                "tools": ToolsCapability(list_changed=self._tools_change),
                "resources": ResourcesCapability(subscribe=True, list_changed=False),
                "prompts": PromptsCapability(list_changed=False),
            }
        )


async def _masked(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Tell nothing of what nobody foresaw: the SDK would tell its text to the client."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except Exception:
        _LOGGER.exception("%s failed over MCP", ctx.method)
        message = "it failed; the log of the MCP server says why"
        raise MCPError(INTERNAL_ERROR, message) from None


def _declined_at(desk: Desk) -> ServerMiddleware[Any]:
    """Have calls of tools written down that are refused as nobody has agreed to them.

    The answer to a confirmation may have been used before, or be somebody else's.
    """

    async def declined(ctx: Context, call_next: CallNext) -> HandlerResult:
        try:
            return await call_next(ctx)
        except ToldError:
            raise
        except MCPError as error:
            name, given = (ctx.params or {}).get("name"), (ctx.params or {}).get("arguments")
            if ctx.method == _CALL and isinstance(name, str):
                arguments = given if isinstance(given, dict) else {}
                await desk.decline(name, arguments, error.error.message, ctx)
            raise

    return declined


class _Tools:
    """Answers what clients ask about tools."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._confirmations = Confirmations()

    async def all(
        self, context: Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Return the commands that the client may use, if not everywhere."""
        try:
            infos = await self._infos(context)
        except CommandError as error:
            raise protocol_error(error) from None
        tools = [tool_of(info) for info in infos if info["allowed"]]
        return ListToolsResult(tools=sorted([*tools, mcp_watch.TOOL], key=lambda tool: tool.name))

    async def call(
        self, context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Run a command, once it is confirmed if it can not be undone."""
        given = params.arguments or {}
        try:
            if params.name == mcp_watch.TOOL.name:
                return succeeded(await mcp_watch.watch_for(self._desk, given, context))
            if await self._must_be_confirmed(params.name, context):
                wanted = await self._confirmed(context, params)
                if wanted is not None:
                    return wanted
            return succeeded(await self._desk.execute(params.name, given, context))
        except CommandError as error:
            # Of those the protocol has a form of its own; all others are for the model to read.
            if error.code is Code.UNKNOWN_COMMAND:
                raise protocol_error(error, INVALID_PARAMS) from None
            if error.code is Code.UNAUTHENTICATED:
                raise protocol_error(error, INVALID_REQUEST) from None
            return failed(error)
        except MCPError:
            raise
        except Exception:
            # The SDK would tell its text to the client.
            _LOGGER.exception("an answer could not be sent over MCP")
            message = "the answer could not be sent; the log of the MCP server says why"
            return failed(CommandError(Code.INTERNAL, message))

    async def _confirmed(
        self, context: Context, params: CallToolRequestParams
    ) -> InputRequiredResult | None:
        try:
            return await self._confirmations.ask(context, params)
        except DeclinedError as declined:
            given, answer = params.arguments or {}, declined.answer
            raise await self._desk.decline(params.name, given, answer, context) from None

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
