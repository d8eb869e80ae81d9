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
from ninelives_control.transports.grpc.connection import OPTIONS, unreachable, unreached
from ninelives_control.transports.grpc.errors import told
from ninelives_control.transports.grpc.messages import fill, plain_struct, put_struct, values_of
from ninelives_control.transports.mcp.server import ControlServer
from ninelives_control.v1.control_pb2 import DeclineRequest, ExecuteRequest, WatchRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Struct
    from mcp.server.context import ServerRequestContext

    from ninelives_control.command import Effect
    from ninelives_control.transports.grpc.connection import Connection

_AGAIN = 1.0
"""Seconds after which a watch that has ended is begun again."""
_State = grpc.ChannelConnectivity
_EFFECTS = {entry.name: entry.effect for entry in BUILT_IN}


async def serve(connection: Connection) -> None:
    """Serve until standard input ends."""
    async with connection.aio_channel(OPTIONS) as channel:
        server = ControlServer(GrpcDesk(channel, connection))
        async with _warning(channel, connection.address), stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())


class GrpcDesk:
    """Hands commands to a control plane over gRPC, for whoever started this process."""

    def __init__(self, channel: grpc.aio.Channel, connection: Connection) -> None:
        """Use a channel of that connection."""
        self._stub = ControlServiceStub(channel)
        self._connection = connection
        self._metadata = connection.metadata()

    @property
    def commands(self) -> None:
        """Return that nobody tells over gRPC when commands change."""

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
        _put(request.arguments, arguments)
        answer = await self._ask(self._stub.Execute, request)
        return plain_struct(answer.result)

    async def decline(
        self,
        command: str,
        arguments: dict[str, Any],
        answer: str,
        _context: ServerRequestContext[Any, Any],
    ) -> CommandError:
        """Have it written down that a person did not agree, and return what to tell of it."""
        request = DeclineRequest(command=command, answer=answer)
        try:
            _put(request.arguments, arguments)
            await self._ask(self._stub.Decline, request)
        except CommandError as error:
            return error
        raise AssertionError

    async def watch(
        self, arguments: dict[str, Any], _context: ServerRequestContext[Any, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the state and then events; again the state, when the program is back.

        Raises:
            CommandError: The client may not watch, or at first nobody can be reached.
        """
        request = WatchRequest()
        fields = request.DESCRIPTOR.fields
        fill(request, {field.name: arguments.get(field.name) for field in fields})
        begun = False
        while True:
            call = self._stub.Watch(request, metadata=self._metadata, wait_for_ready=begun)
            try:
                yield values_of(
                    await self._first(call, None if begun else self._connection.timeout)
                )
                begun = True
                async for message in call:
                    yield values_of(message)
            except grpc.aio.AioRpcError as error:
                problem = told(error) or unreached(error, self._connection)
                if not begun or problem.code is not Code.UNAVAILABLE:
                    raise problem from None
            finally:
                call.cancel()
            await asyncio.sleep(_AGAIN)

    async def _first(self, call: Any, patience: float | None) -> Message:
        try:
            message: Message = await asyncio.wait_for(anext(aiter(call)), patience)
        except TimeoutError:
            raise CommandError(Code.UNAVAILABLE, f"no answer within {patience:g} s") from None
        return message

    async def _ask(self, rpc: Any, request: Message) -> Any:
        try:
            return await rpc(request, metadata=self._metadata, timeout=self._connection.timeout)
        except grpc.aio.AioRpcError as error:
            raise told(error) or unreached(error, self._connection) from None
        except asyncio.CancelledError:
            # That of gRPC would be taken for the end of the server; anyio raises one of its own.
            await checkpoint()
            raise


def _put(target: Struct, arguments: dict[str, Any]) -> None:
    try:
        put_struct(target, arguments)
    except (OverflowError, ValueError) as error:
        message = f"the arguments can not be sent over gRPC: {error}"
        raise CommandError(Code.INVALID_ARGUMENT, message) from None


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
