"""What the connection itself tells of an HTTP client: its certificate, or its user."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ninelives_control.transports.http.patience import PatientHttp

if TYPE_CHECKING:
    import asyncio
    import ssl

    from starlette.types import Scope

_KEY = "ninelives_peer"
_CREDENTIALS = struct.Struct("3i")
_OPTION: int | None = getattr(socket, "SO_PEERCRED", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a connection.

    Attributes:
        certificate: Its certificate, in DER; it is of a CA that is believed.
        unix: Whether it came by a Unix socket.
        uid: The user that it runs under then, where the kernel says so, as Linux does.
    """

    certificate: bytes | None = None
    unix: bool = False
    uid: int | None = None


_NOBODY = Peer()


@runtime_checkable
class Witness(Protocol):
    """An application that wants to know of what is no HTTP, and so never comes to it."""

    def malformed(self, client: tuple[str, int] | None) -> None:
        """Take note of a connection that was closed for it; must not block."""


class PeerProtocol(PatientHttp):
    """Puts the peer of a connection into the scope of its requests and its websocket."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, such as a request with two lengths."""
        super().send_400_response(msg)
        if isinstance(self.config.app, Witness):
            self.config.app.malformed(self.client)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look who it is."""
        super().connection_made(transport)
        # uvicorn copies it into each scope, and hands it on to the protocol of a websocket.
        self.app_state = {**self.app_state, _KEY: _peer(transport)}


def peer_of(scope: Scope) -> Peer:
    """Return who made a request or opened a websocket."""
    state: dict[str, Any] = scope.get("state") or {}
    peer: Peer = state.get(_KEY, _NOBODY)
    return peer


def _peer(transport: asyncio.Transport) -> Peer:
    secured: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    connection: socket.socket | None = transport.get_extra_info("socket")
    if secured is not None:
        return Peer(certificate=secured.getpeercert(binary_form=True))
    if connection is None or connection.family != socket.AF_UNIX:
        return _NOBODY
    if _OPTION is None:
        return Peer(unix=True)
    try:
        told = connection.getsockopt(socket.SOL_SOCKET, _OPTION, _CREDENTIALS.size)
    except OSError:
        return Peer(unix=True)
    _, uid, _ = _CREDENTIALS.unpack(told)
    return Peer(unix=True, uid=uid)
