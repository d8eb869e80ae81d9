"""Cut off clients that are too slow.

One that sends a byte every now and then, or takes nothing of what it has asked for, pays next to
nothing for it, and we pay with a file descriptor and memory each time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_control.limits import Limits

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Patience:
    """Cuts a connection off whose client takes too long for what it has to do.

    Args:
        seconds: How long it may take.
        cut: Cuts it off.
    """

    def __init__(self, seconds: float, cut: Callable[[], object]) -> None:
        """Begin without anything to wait for."""
        self._seconds = seconds
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Give it the time from now on; what has begun already goes on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cut)

    def end(self) -> None:
        """Be content: it has done it, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PatientHttp(H11Protocol):
    """HTTP/1.1, of which a request must be received in time, and an answer be taken.

    Args:
        limits: How long that may take.
        more: What uvicorn says.
    """

    def __init__(self, *, limits: Limits, **more: Any) -> None:
        """Begin without a connection."""
        super().__init__(**more)
        # Paths and queries may hold what nobody should read; the audit is what is to be read.
        self.access_log = False
        self._stall_seconds = limits.stall
        self._receiving = Patience(limits.patience, self._too_slow)
        self._stalled = Patience(limits.stall, self._abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._receiving.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._receiving.end()
        self._stalled.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request, and wait for the rest."""
        super().data_received(data)
        if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
            self._receiving.begin()
        else:
            self._receiving.end()

    def pause_writing(self) -> None:
        """Wait until the client has taken what is there."""
        super().pause_writing()
        self._stalled.begin()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stalled.end()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nothing comes on, also if its client does not take the rest."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self._stall_seconds, self._abort)

    def _too_slow(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_TOO_SLOW)
        self.transport.close()
        self.loop.call_later(self._stall_seconds, self._abort)

    def _abort(self) -> None:
        self.transport.abort()


class PatientWebSocket(WebSocketsSansIOProtocol):
    """A websocket, whose messages must be taken in time.

    Args:
        limits: How long that may take.
        more: What uvicorn says.
    """

    def __init__(self, *, limits: Limits, **more: Any) -> None:
        """Begin without a connection."""
        super().__init__(**more)
        self._stalled = Patience(limits.stall, self._abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stalled.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client has taken what is there."""
        super().pause_writing()
        self._stalled.begin()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stalled.end()

    def _abort(self) -> None:
        self.transport.abort()
