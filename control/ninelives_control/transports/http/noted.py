"""Writes down what HTTP refuses before it is a command: hosts, origins, forms, sizes and the like.

A refusal that the dispatcher has written down, with who asked for what, is left at that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ninelives_control.audit.early import EarlyRefusal, marked
from ninelives_control.errors import Code
from ninelives_control.threads import in_thread
from ninelives_control.transports.http.guard import address_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ninelives_control.router import Dispatcher

NAME = "http"
_BAD_REQUEST = 400
_OF_SERVER = range(500, 600)
_CODES = {401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.NOT_FOUND}
_MISUSED = {1002, 1003, 1007, 1009}
_WENT_WELL = {1000, 1001, 1005, 1006, 1012}
"""Codes by which websockets are closed for bytes that are none or too many, and for nothing of
the kind (RFC 6455, 7.4.1)."""


class Noted:
    """Looks at what clients are told, and writes down refusals.

    Args:
        app: What tells it.
        dispatcher: What writes it down.
    """

    def __init__(self, app: ASGIApp, dispatcher: Dispatcher) -> None:
        """Hold both."""
        self._app = app
        self._dispatcher = dispatcher
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or serve a websocket."""
        if scope["type"] == "websocket":
            await self._app(scope, self._hearing(scope, receive), self._watching(scope, send))
            return
        with marked() as mark:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start" and not mark.written:
                    await self._note(scope, scope["method"], message["status"])
                await send(message)

            await self._app(scope, receive, noting)

    def malformed(self, client: tuple[str, int] | None) -> None:
        """Write down that a client has sent what is no HTTP."""
        scope = {"path": "", "client": client}
        task = asyncio.create_task(self._note(scope, "no HTTP", _BAD_REQUEST))
        # A loop holds its tasks weakly only.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hearing(self, scope: Scope, receive: Receive) -> Receive:
        """Notice when the server has closed a websocket for what came on it."""

        async def hearing() -> Message:
            message = await receive()
            if message["type"] == "websocket.disconnect" and message.get("code") in _MISUSED:
                await self._note(scope, "websocket", message["code"])
            return message

        return hearing

    def _watching(self, scope: Scope, send: Send) -> Send:
        accepted = False

        async def noting(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            if message["type"] == "websocket.close":
                if not accepted:
                    await self._note(scope, "websocket", 403)
                elif message.get("code", 1000) not in _WENT_WELL:
                    await self._note(scope, "websocket", message["code"])
            await send(message)

        return noting

    async def _note(self, scope: Scope, method: str, status: int) -> None:
        if status < _BAD_REQUEST:
            return
        known = _CODES.get(status, Code.INVALID_ARGUMENT)
        refusal = EarlyRefusal(
            transport=NAME,
            # Not the query, in which somebody may have put a token.
            request=f"{method} {scope['path']}".rstrip(),
            answer=str(status),
            code=Code.UNAVAILABLE if status in _OF_SERVER else known,
            peer=address_of(scope),
        )
        await in_thread(self._dispatcher.note, refusal)
