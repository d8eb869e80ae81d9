"""A websocket that sends what a GraphQL client would not send."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

    from ninelives_control import ControlPlane

PROTOCOL = "graphql-transport-ws"


@contextmanager
def websocket(
    plane: ControlPlane, token: str, *, path: str = "/graphql", **options: Any
) -> Iterator[ClientConnection]:
    """Open one that can be spoken on."""
    settings: dict[str, Any] = {
        "subprotocols": [PROTOCOL],
        "additional_headers": {"Authorization": f"Bearer {token}"},
        "max_size": None,
        **options,
    }
    with connect(f"ws://127.0.0.1:{plane.http_port}{path}", **settings) as connection:
        yield connection


@contextmanager
def subscribed(
    plane: ControlPlane, token: str, document: str, **options: Any
) -> Iterator[ClientConnection]:
    """Open one on which a document was sent."""
    with websocket(plane, token, **options) as connection:
        begin(connection)
        send(connection, type="subscribe", id="1", payload={"query": document})
        yield connection


def begin(connection: ClientConnection) -> None:
    send(connection, type="connection_init")
    assert receive(connection) == {"type": "connection_ack"}


def send(connection: ClientConnection, **message: object) -> None:
    connection.send(json.dumps(message))


def receive(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=10))
