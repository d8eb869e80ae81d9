"""An ASGI application on uvicorn, within a loop that is not uvicorn's own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

import uvicorn

from ninelives_control.transports.http.connections import Listener
from ninelives_control.transports.http.patience import PatientWebSocket
from ninelives_control.transports.http.peer import PeerProtocol

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from ninelives_control.limits import Limits

LARGEST_MESSAGE = 2**20
"""Bytes that a request, or a message on a websocket, may have."""

_GRACE = 1
"""Seconds that requests get to end when the control plane stops."""
_TICK = 0.01
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
        self,
        app: ASGIApp,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        limits: Limits,
    ) -> None:
        """Configure uvicorn; connections are encrypted as the context says, if there is one."""
        self._config = uvicorn.Config(
            app,
            http=functools.partial(PeerProtocol, limits=limits),  # type: ignore[arg-type]
            ws=functools.partial(PatientWebSocket, limits=limits),  # type: ignore[arg-type]
            ws_max_size=LARGEST_MESSAGE,
            lifespan="off",
            log_config=None,
            # Whoever is on this machine may do more: that must not be read from a header.
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
        )
        self._server = uvicorn.Server(self._config)
        self._listener = Listener(listening, self._protocol, context, limits)
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve.

        `uvicorn.Server.serve` would do it as well, but says nothing when it is ready, and accepts
        any number of connections.
        """
        self._config.load()
        await self._server.on_tick(0)
        self._listener.start()
        self._ticking = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        """Close all connections; those that do not end in time are cut off."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking
        await self._listener.stop()
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
        return bool(state.connections or state.tasks)

    def _protocol(self) -> asyncio.Protocol:
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._server.server_state, app_state={}
        )
