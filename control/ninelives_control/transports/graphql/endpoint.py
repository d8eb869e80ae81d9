"""Serve commands over GraphQL: by POST, over websockets, and as server-sent events."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)

from ninelives_control import plain_json
from ninelives_control.errors import Code
from ninelives_control.identity.identity import bearer
from ninelives_control.transports.graphql.errors import note
from ninelives_control.transports.graphql.schema import schema_for
from ninelives_control.transports.http.guard import caller_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import HTTPConnection
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket
    from strawberry.schema import BaseSchema
    from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
        Message,
        SubscribeMessage,
    )

    from ninelives_control.identity.identity import Credentials
    from ninelives_control.router import Dispatcher

_PATIENCE = timedelta(seconds=10)
_MOST_SUBSCRIPTIONS = 20


class Asker:
    """Who asks: what resolvers know of a request or websocket.

    Attributes:
        connection_params: What a websocket was opened with (`connection_init`); browsers can not
            send the token in any other way.
        streams: Whether it can be answered more than once.
    """

    def __init__(self, connection: HTTPConnection, *, streams: bool) -> None:
        """Remember the connection."""
        self.connection_params: dict[str, Any] = {}
        self.streams = streams
        self._shown = caller_of(connection.scope)

    @property
    def caller(self) -> Credentials:
        """What the client has shown of itself."""
        header = next(
            (
                value
                for name, value in self.connection_params.items()
                if name.lower() == "authorization"
            ),
            None,
        )
        if self._shown.token is not None or header is None:
            return self._shown
        token = bearer(header) if isinstance(header, str) else ""
        return dataclasses.replace(self._shown, token=token)


class _WebSocketHandler(BaseGraphQLTransportWSHandler[Asker, None]):
    async def handle_message(self, message: Message) -> None:
        """Take a message; what is none ends the connection, and leaves no trace in a log."""
        if isinstance(message.get("id", ""), str):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("Failed to parse message")

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation; what is none ends the connection likewise."""
        if not _is_operation(message):
            await self.handle_invalid_message("Failed to parse message")
            return
        assert isinstance(self.view, GraphQLEndpoint)
        self.schema = self.view.newest()
        await super().handle_subscribe(message)

    async def send_message(self, message: Message) -> None:
        """Give a code to the errors that are not of the schema, too."""
        if message["type"] == "error":
            for error in message["payload"]:
                if "extensions" not in error:
                    error["extensions"] = {"code": str(Code.UNAVAILABLE)}
                    assert isinstance(self.view, GraphQLEndpoint)
                    await self.view.note(self.context)
        await super().send_message(message)


class GraphQLEndpoint(GraphQL[Asker, None]):
    """The ASGI application at `/graphql`."""

    graphql_transport_ws_handler_class = _WebSocketHandler

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Build the schema."""
        self._dispatcher = dispatcher
        self._known = dispatcher.commands.revision
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
        self.newest()
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self.run(request)
        except HTTPException as error:
            answer = {"message": error.reason, "extensions": {"code": str(Code.INVALID_ARGUMENT)}}
            # In ASCII, as a client may have sent half of a surrogate pair.
            response = Response(
                self.encode_json({"errors": [answer]}),
                status_code=error.status_code,
                media_type="application/json",
            )
        try:
            await response(scope, receive, send)
        finally:
            if isinstance(response, StreamingResponse):
                # Left to the garbage collector, their parts would be closed in the wrong order.
                await response.body_iterator.aclose()  # type: ignore[attr-defined]
                await request.state.result.aclose()

    async def note(self, asker: Asker) -> None:
        """Have it written down that somebody wants more subscriptions than there may be."""
        await note(self._dispatcher, "subscription", Code.UNAVAILABLE, asker.caller.peer)

    def newest(self) -> BaseSchema:
        """Return the schema for the commands that there are now; what runs keeps the one it has."""
        revision = self._dispatcher.commands.revision
        if self._known != revision:
            self.schema = schema_for(self._dispatcher)
            self._known = revision
        return self.schema

    def _stream_result(self, request: Request, result: Any, transport: Any) -> Any:
        request.state.result = result
        return super()._stream_result(request, result, transport)

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Asker:
        """Return who asks."""
        streams = (
            request.scope["type"] == "websocket"
            or self._get_stream_transport_from_headers(request.headers) is not None
        )
        return Asker(request, streams=streams)

    def decode_json(self, data: str | bytes) -> object:
        """Read a request or message, which is an object.

        Raises:
            JSONDecodeError: It is not.
        """
        try:
            value: object = plain_json.loads(data)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
        if isinstance(value, dict):
            return value
        raise json.JSONDecodeError("an object is expected", "", 0)


def _is_operation(message: Mapping[str, Any]) -> bool:
    payload = message.get("payload")
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
