"""Serve commands over HTTP: REST, GraphQL, MCP, metrics and health on one port."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from ninelives_control.transports.transport import listening
from ninelives_control.transports.unix_socket import listening_at, placed, removed

if TYPE_CHECKING:
    import socket
    import ssl

    from ninelives_control.server import ControlPlane
    from ninelives_control.transports.transport import Address


class HttpTransport:
    """The HTTP server of the control plane.

    Nothing that it needs is imported before it starts: most programs that import this package
    never serve HTTP.
    """

    name: ClassVar[str] = "http"

    def __init__(self) -> None:
        """Begin without a server."""
        self._stops = contextlib.AsyncExitStack()
        self._port = 0

    async def start(self, plane: ControlPlane) -> int:
        """Begin to serve, and return the port, or 0 without one.

        Raises:
            AddressError: The port or socket is in use.
        """
        listeners = self._listeners(plane.address(self.name))
        # Half a second, and threads and tasks of others: not before it is asked for.
        from ninelives_control.transports.http.app import HttpApp  # noqa: PLC0415
        from ninelives_control.transports.http.server import HttpServer  # noqa: PLC0415

        app = HttpApp(plane)
        servers = [
            HttpServer(app.asgi, listener, context, plane.limits) for listener, context in listeners
        ]
        # Stopped in this order: sessions end before the servers wait for their connections.
        self._stops.callback(app.close)
        for server in servers:
            self._stops.push_async_callback(server.stop)
        self._stops.push_async_callback(app.end_sessions)
        await app.start_sessions()
        for server in servers:
            await server.start()
        return self._port

    def _listeners(self, address: Address) -> list[tuple[socket.socket, ssl.SSLContext | None]]:
        """Listen, and say how connections are encrypted."""
        listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        if address.port is not None:
            listener = listening(address.host, address.port, "http_port")
            self._stops.callback(listener.close)
            self._port = listener.getsockname()[1]
            listeners.append((listener, None if address.tls is None else address.tls.context()))
        if address.socket is not None:
            listener = placed(address.socket, "http_socket", listening_at)
            self._stops.callback(removed, address.socket)
            self._stops.callback(listener.close)
            listeners.append((listener, None))
        return listeners

    async def stop(self) -> None:
        """End all calls, sessions and connections, and let go of port and socket."""
        await self._stops.aclose()
