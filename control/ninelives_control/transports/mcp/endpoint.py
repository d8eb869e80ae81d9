"""Serve MCP over streamable HTTP, to older clients with a session and to newer ones without."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.requests import Request

from ninelives_control.audit.early import EarlyRefusal, marked
from ninelives_control.errors import Code, CommandError, not_confirmed
from ninelives_control.identity.identity import Proof
from ninelives_control.threads import in_thread
from ninelives_control.transports.http.guard import caller_of, problem_of
from ninelives_control.transports.http.server import LARGEST_MESSAGE
from ninelives_control.transports.mcp.server import ControlServer
from ninelives_control.watch import follow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from starlette.types import Receive, Scope, Send

    from ninelives_control.command import CommandTable, Effect
    from ninelives_control.router import Dispatcher

_NAME = "mcp"
_MOST_SESSIONS = 100
_IDLE = 600.0
"""Seconds after which a session ends that nobody uses."""


class McpEndpoint:
    """The ASGI application at `/mcp`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Begin without sessions."""
        self._dispatcher = dispatcher
        desk = _DispatcherDesk(dispatcher)
        self._server = ControlServer(desk)
        self._server.middleware.insert(0, desk.noted)
        self._manager = StreamableHTTPSessionManager(
            self._server,
            max_request_body_size=LARGEST_MESSAGE,
            session_idle_timeout=_IDLE,
            max_sessions=_MOST_SESSIONS,
        )
        self._ready, self._stopping = asyncio.Event(), asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be ready for clients."""
        self._running = asyncio.create_task(self._run())
        await self._ready.wait()

    async def stop(self) -> None:
        """End all sessions and streams."""
        self._server.end_streams()
        # Calls would wait for clients otherwise, whose streams are gone: up to 6 s.
        for session in tuple(self._manager._server_instances.values()):
            await session.terminate()
        self._stopping.set()
        if self._running is not None:
            await self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of somebody who is known; that of a session only to whom it belongs."""
        try:
            identity = await in_thread(
                self._dispatcher.recognize, _NAME, caller=caller_of(scope), transport=_NAME
            )
        except CommandError as error:
            await problem_of(error)(scope, receive, send)
            return
        if identity.proof is not Proof.ANONYMOUS:
            # Not its token, as identity providers give it another one every few minutes.
            principal = f"{identity.proof}:{identity.name}"
            shown = AccessToken(token="", client_id=principal, scopes=[])
            scope = {**scope, "user": AuthenticatedUser(shown)}
        await self._manager.handle_request(scope, receive, send)

    async def _run(self) -> None:
        # In a task of its own, as sessions that fail would cancel the one that entered this.
        async with self._manager.run():
            self._ready.set()
            await self._stopping.wait()


class _DispatcherDesk:
    """Hands commands to the dispatcher of this process, for whoever made the HTTP request."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    @property
    def commands(self) -> CommandTable:
        return self._dispatcher.commands

    def effect(self, command: str) -> Effect | None:
        return self.commands.get(command).effect if command in self.commands else None

    def principal(self, context: ServerRequestContext[Any, Any]) -> str:
        user = _scope(context).get("user")
        return user.access_token.client_id if isinstance(user, AuthenticatedUser) else ""

    async def execute(
        self, command: str, arguments: dict[str, Any], context: ServerRequestContext[Any, Any]
    ) -> dict[str, Any]:
        result = await in_thread(
            self._dispatcher.execute,
            command,
            arguments,
            caller=caller_of(_scope(context)),
            transport=_NAME,
        )
        return result.model_dump(mode="json")

    async def decline(
        self,
        command: str,
        arguments: dict[str, Any],
        answer: str,
        context: ServerRequestContext[Any, Any],
    ) -> CommandError:
        return await in_thread(
            self._dispatcher.refuse,
            command,
            arguments,
            not_confirmed(command, answer),
            caller=caller_of(_scope(context)),
            transport=_NAME,
        )

    async def noted(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Write down what the protocol refuses before the dispatcher is asked, as middleware."""
        with marked() as mark:
            try:
                return await call_next(ctx)
            except (MCPError, ValidationError):
                if not mark.written:
                    await self._note(ctx)
                raise

    async def _note(self, context: ServerRequestContext[Any, Any]) -> None:
        refusal = EarlyRefusal(
            transport=_NAME,
            request=context.method,
            answer="error",
            code=Code.INVALID_ARGUMENT,
            peer=caller_of(_scope(context)).peer,
        )
        await in_thread(self._dispatcher.note, refusal)

    async def watch(
        self, arguments: dict[str, Any], context: ServerRequestContext[Any, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        caller = caller_of(_scope(context))
        told = follow(self._dispatcher, arguments, caller=caller, transport=_NAME)
        async with contextlib.aclosing(told):
            async for message in told:
                yield message.model_dump(mode="json")


def _scope(context: ServerRequestContext[Any, Any]) -> Scope:
    """Return the HTTP request behind a message of a client."""
    assert isinstance(context.request, Request)
    return context.request.scope
