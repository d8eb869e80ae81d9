"""Serve commands over GraphQL: by POST, over websockets, and as server-sent events."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)

from ninelives_control.errors import Code
from ninelives_control.identity import Credentials, bearer
from ninelives_control.transports.graphql_schema import schema_for
from ninelives_control.transports.http_guard import caller_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket
    from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
        Message,
        SubscribeMessage,
    )

    from ninelives_control.router import Dispatcher

_PATIENCE = timedelta(seconds=10)
_MOST_SUBSCRIPTIONS = 20


class Asker:
    """Who asks: what resolvers know of a request or websocket.

    Attributes:
        connection_params: What a websocket was opened with (`connection_init`); browsers can not
            send the token in any other way.
    """

    def __init__(self, connection: HTTPConnection) -> None:
        """Remember the connection."""
        self.connection_params: dict[str, Any] = {}
        self._shown = caller_of(connection.scope)

    @property
    def caller(self) -> Credentials:
        """What the client has shown of itself."""
        header = self.connection_params.get("authorization")
        if self._shown.token is not None or header is None:
            return self._shown
        token = bearer(header) if isinstance(header, str) else ""
        return Credentials(token=token, loopback=self._shown.loopback)


class _WebSocketHandler(BaseGraphQLTransportWSHandler[Asker, None]):
    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation; what is none ends the connection, and leaves no trace in a log."""
        if not _is_operation(message):
            await self.handle_invalid_message("Failed to parse message")
            return
        await super().handle_subscribe(message)

    async def send_message(self, message: Message) -> None:
        """Give a code to the errors that are not of the schema, too."""
        if message["type"] == "error":
            for error in message["payload"]:
                error.setdefault("extensions", {"code": str(Code.UNAVAILABLE)})
        await super().send_message(message)


class GraphQLEndpoint(GraphQL[Asker, None]):
    """The ASGI application at `/graphql`."""

    graphql_transport_ws_handler_class = _WebSocketHandler

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Build the schema."""
        super().__init__(
            schema_for(dispatcher),
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=_PATIENCE,
            max_subscriptions_per_connection=_MOST_SUBSCRIPTIONS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what is no GraphQL request gets an error of the same form as others."""
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        try:
            response = await self.run(Request(scope, receive))
        except HTTPException as error:
            answer = {"message": error.reason, "extensions": {"code": str(Code.INVALID_ARGUMENT)}}
            response = JSONResponse({"errors": [answer]}, status_code=error.status_code)
        await response(scope, receive, send)

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Asker:
        """Return who asks."""
        return Asker(request)

    def decode_json(self, data: str | bytes) -> object:
        """Read a request or message, which is an object.

        Raises:
            JSONDecodeError: It is not.
        """
        try:
            value: object = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
        if isinstance(value, dict):
            return value
        raise json.JSONDecodeError("an object is expected", "", 0)


def _is_operation(message: Mapping[str, Any]) -> bool:
    payload = message.get("payload")
    return (
        isinstance(message.get("id"), str)
        and isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
