"""Connections that are let in, up to so many: each takes a file descriptor of the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from typing import TYPE_CHECKING

from ninelives_control.identity.identity import is_loopback

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ninelives_control.limits import Limits

_LOGGER = logging.getLogger("ninelives_control")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Retry-After: 10\r\nConnection: close\r\n\r\n"
    b'{"status":503,"code":"unavailable",'
    b'"detail":"there are too many connections; close some, or try again later"}'
)
_PAUSE = 1.0
"""Seconds in which no connection is accepted when the process has no file descriptor left."""


class Listener:
    """Accepts connections on a socket, and hands each to a protocol of its own.

    asyncio's own server would accept any number, and wait a minute for each to be secured.

    Args:
        listening: The socket.
        make: Makes a protocol.
        context: How connections are encrypted, or None.
        limits: How many there may be, and how long they may take.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        limits: Limits,
    ) -> None:
        """Hold them."""
        self._listening = listening
        self._make = make
        self._context = context
        self._limits = limits
        self._open: dict[socket.socket, str] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._listening.settimeout(0)
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more, and forget those that are being made."""
        if self._accepting is None:
            return
        for task in (self._accepting, *self._starting):
            task.cancel()
        await asyncio.wait({self._accepting, *self._starting})
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listening)
            except OSError as error:
                _LOGGER.warning("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            connection.settimeout(0)
            host = ""
            if isinstance(address, tuple):
                host = address[0]
                # asyncio does so for sockets that it has made itself: the body of an answer would
                # wait for the client to acknowledge its head, which takes up to 40 ms.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._has_room(host):
                self._open[connection] = host
                task = loop.create_task(self._begin(connection))
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
            else:
                self._turn_away(connection)

    async def _begin(self, connection: socket.socket) -> None:
        timeout = None if self._context is None else self._limits.patience
        # One that is not secured in time, or fails at it, is closed by asyncio.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=timeout
            )

    def _has_room(self, host: str) -> bool:
        limits = self._limits
        # Their transports close them, and tell nobody else.
        self._open = {one: of for one, of in self._open.items() if one.fileno() != -1}
        if len(self._open) >= limits.connections:
            return False
        if not host or is_loopback(host):
            return True
        return Counter(self._open.values())[host] < limits.connections_per_host

    def _turn_away(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is None:
                connection.send(_BUSY)
                connection.shutdown(socket.SHUT_WR)
