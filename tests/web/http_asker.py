"""A plain HTTP client, that sends what it is told to send."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninelives_control import ControlPlane

JSON = {"Content-Type": "application/json"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def fetch(
    plane: ControlPlane,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
) -> Answer:
    connection = http.client.HTTPConnection(host, plane.http_port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def post(plane: ControlPlane, document: str, token: str | None = None, **headers: str) -> Answer:
    """Send a GraphQL document that a GraphQL client would not send."""
    return post_json(plane, {"query": document}, token, **headers)


def post_json(
    plane: ControlPlane, value: object, token: str | None = None, **headers: str
) -> Answer:
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(plane, "POST", "/graphql", json.dumps(value).encode(), JSON | shown | named)


def connected(plane: ControlPlane, data: bytes = b"") -> socket.socket:
    """Return a connection on which these bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", plane.http_port), timeout=10)
    connection.sendall(data)
    return connection


def stream(plane: ControlPlane, document: str, token: str) -> socket.socket:
    """Return a connection that is answered with server-sent events."""
    body = json.dumps({"query": document}).encode()
    head = (
        "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return connected(plane, head.encode() + body)


def received_until(connection: socket.socket, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return received
