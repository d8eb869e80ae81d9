"""Where an MCP server hands in what its clients ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST

from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server.context import ServerRequestContext

    from ninelives_control.command import CommandTable, Effect

    Context = ServerRequestContext[Any, Any]


class Desk(Protocol):
    """Where commands are handed in for the client of a request."""

    @property
    def commands(self) -> CommandTable | None:
        """All commands, if they are in this process and tell when they change."""

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

    async def decline(
        self, command: str, arguments: dict[str, Any], answer: str, context: Context
    ) -> CommandError:
        """Write down that a person did not agree to a command, and return what to tell of it."""

    def watch(
        self, arguments: dict[str, Any], context: Context
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the state and then events, as `WatchEvents` asks for them.

        Raises:
            CommandError: The client may not watch, or not any more, or nobody is there to tell.
        """


class ToldError(MCPError):
    """What a command was refused for, in the protocol's own form: it is written down already."""


def protocol_error(error: CommandError, code: int | None = None) -> ToldError:
    """Return an error in the protocol's own form, for what has no result to stand in."""
    if code is None:
        code = INTERNAL_ERROR if error.code is Code.INTERNAL else INVALID_REQUEST
    data = {"code": str(error.code)}
    if error.rule:
        data["rule"] = error.rule
    return ToldError(code, error.message, data)
