"""Serve MCP on standard input and output, for a control plane that runs elsewhere.

An MCP host starts this as a process of its own. Commands go on over gRPC, and what comes back is
what the control plane would say over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import grpc
from anyio.lowlevel import checkpoint
from mcp.server.stdio import stdio_server

from ninelives_control.commands import BUILT_IN
from ninelives_control.errors import Code, CommandError
from ninelives_control.transports.connection import OPTIONS, unreachable, unreached
from ninelives_control.transports.grpc_errors import told
from ninelives_control.transports.mcp import server_for
from ninelives_control.transports.messages import plain_struct, put_struct
from ninelives_control.v1.control_pb2 import ExecuteRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.server.context import ServerRequestContext

    from ninelives_control.command import Effect
    from ninelives_control.transports.connection import Connection

_State = grpc.ChannelConnectivity
_EFFECTS = {entry.name: entry.effect for entry in BUILT_IN}


async def serve(connection: Connection) -> None:
    """Serve until standard input ends."""
    async with connection.aio_channel(OPTIONS) as channel:
        server = server_for(GrpcDesk(channel, connection))
        async with _warning(channel, connection.address), stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())


class GrpcDesk:
    """Hands commands to a control plane over gRPC, for whoever started this process."""

    def __init__(self, channel: grpc.aio.Channel, connection: Connection) -> None:
        """Use a channel of that connection."""
        self._stub = ControlServiceStub(channel)
        self._connection = connection
        self._metadata = connection.metadata()

    def effect(self, command: str) -> Effect | None:
        """Return what a built-in command does; others have to be asked for."""
        return _EFFECTS.get(command)

    def principal(self, _context: ServerRequestContext[Any, Any]) -> str:
        """Return that there is one client only."""
        return ""

    async def execute(
        self, command: str, arguments: dict[str, Any], _context: ServerRequestContext[Any, Any]
    ) -> dict[str, Any]:
        """Run a command and return its result.

        Raises:
            CommandError: It did not run, or failed, or the control plane can not be reached.
        """
        request = ExecuteRequest(command=command)
        try:
            put_struct(request.arguments, arguments)
        except (OverflowError, ValueError) as error:
            message = f"the arguments can not be sent over gRPC: {error}"
            raise CommandError(Code.INVALID_ARGUMENT, message) from None
        try:
            answer = await self._stub.Execute(
                request, metadata=self._metadata, timeout=self._connection.timeout
            )
        except grpc.aio.AioRpcError as error:
            raise told(error) or unreached(error, self._connection) from None
        except asyncio.CancelledError:
            # That of gRPC would be taken for the end of the server; anyio raises one of its own.
            await checkpoint()
            raise
        return plain_struct(answer.result)


@contextlib.asynccontextmanager
async def _warning(channel: grpc.aio.Channel, address: str) -> AsyncIterator[None]:
    """Say so on standard error, once, if the control plane can not be reached at first."""

    async def look() -> None:
        state = channel.get_state(try_to_connect=True)
        while state not in {_State.READY, _State.TRANSIENT_FAILURE}:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
        if state is _State.TRANSIENT_FAILURE:
            sys.stderr.write(unreachable(address) + "\n")
            sys.stderr.flush()

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])
