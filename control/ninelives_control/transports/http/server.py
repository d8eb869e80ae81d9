"""An ASGI application on uvicorn, within a loop that is not uvicorn's own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

from ninelives_control.transports.http.peer import PeerProtocol

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from starlette.types import ASGIApp

LARGEST_MESSAGE = 2**20
"""Bytes that a request, or a message on a websocket, may have."""

_GRACE = 1
"""Seconds that requests get to end when the control plane stops."""
_TICK = 0.01
_MOST_CONNECTIONS = 1000
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
]


class HttpServer:
    """Serves an application on a socket that listens already.

    Signals and the loggers of the process are left alone, whoever else in it uses uvicorn.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None
    ) -> None:
        """Configure uvicorn; connections are encrypted as the context says, if there is one."""
        self._listener = listener
        self._context = context
        self._config = uvicorn.Config(
            app,
            http=PeerProtocol,
            ws="websockets-sansio",
            ws_max_size=LARGEST_MESSAGE,
            lifespan="off",
            log_config=None,
            # Whoever is on this machine may do more: that must not be read from a header.
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
            limit_concurrency=_MOST_CONNECTIONS,
        )
        self._server = uvicorn.Server(self._config)
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve.

        `uvicorn.Server.serve` would do it as well, but says nothing when it is ready.
        """
        self._config.load()
        self._config.ssl = self._context
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[self._listener])
        self._ticking = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        """Close all connections; those that do not end in time are cut off."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking
        for server in self._server.servers:
            server.close()
        told: set[object] = set()

        def shut_down() -> None:
            for connection in tuple(self._server.server_state.connections):
                if connection not in told:
                    told.add(connection)
                    connection.shutdown()

        def abort() -> None:
            for connection in tuple(self._server.server_state.connections):
                connection.transport.abort()

        await self._quiet(shut_down)
        # Not `uvicorn.Server.shutdown`, which cancels requests and logs a trace for each of them.
        await self._quiet(abort)

    async def _quiet(self, end: Callable[[], None]) -> None:
        """Wait until nothing goes on, but not for long; connections may still turn up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                # uvicorn tells nobody when they end.
                while self._busy():
                    end()
                    await asyncio.sleep(_TICK)

    def _busy(self) -> bool:
        state = self._server.server_state
        # A connection that was accepted just now is known to asyncio's server only.
        accepted = any(getattr(server, "_active_count", 0) for server in self._server.servers)
        return bool(state.connections or state.tasks or accepted)
