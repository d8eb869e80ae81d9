"""Serve commands over HTTP: REST, GraphQL, MCP, metrics and health on one port."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from ninelives_control.transports.transport import listening

if TYPE_CHECKING:
    from ninelives_control.server import ControlPlane


class HttpTransport:
    """The HTTP server of the control plane.

    Nothing that it needs is imported before it starts: most programs that import this package
    never serve HTTP.
    """

    name: ClassVar[str] = "http"

    def __init__(self) -> None:
        """Begin without a server."""
        self._stops = contextlib.AsyncExitStack()

    async def start(self, plane: ControlPlane) -> int:
        """Begin to serve, and return the port.

        Raises:
            AddressError: The port is in use.
        """
        listener = listening(plane.host, plane.http_port, "http_port")
        self._stops.callback(listener.close)
        # Half a second, and threads and tasks of others: not before it is asked for.
        from ninelives_control.transports.http_app import HttpApp  # noqa: PLC0415
        from ninelives_control.transports.http_server import HttpServer  # noqa: PLC0415

        app = HttpApp(plane)
        server = HttpServer(app.asgi, listener)
        # Stopped in this order: sessions end before the server waits for their connections.
        self._stops.callback(app.close)
        self._stops.push_async_callback(server.stop)
        self._stops.push_async_callback(app.end_sessions)
        await app.start_sessions()
        await server.start()
        port: int = listener.getsockname()[1]
        return port

    async def stop(self) -> None:
        """End all calls, sessions and connections, and let go of the port."""
        await self._stops.aclose()
