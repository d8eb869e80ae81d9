"""What the control plane expects of a transport, and the address it is served on."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from ninelives_control.errors import AddressError

if TYPE_CHECKING:
    from pathlib import Path

    from ninelives_control.server import ControlPlane
    from ninelives_control.tls import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a transport is asked to listen.

    Attributes:
        host: The address of the port.
        port: The port; 0 is any that is free, and None is no port.
        socket: The path of a Unix socket, or None.
        tls: How connections to the port are encrypted, or None.
    """

    host: str
    port: int | None
    socket: Path | None = None
    tls: TlsFiles | None = None


class Transport(Protocol):
    """Serves commands; runs on the loop of the control plane, in its thread.

    It calls `plane.dispatcher` by `in_thread`, as a command may block, and turns every
    `CommandError` into what its clients understand.

    Attributes:
        name: In one word, for the audit; `ControlPlane` has the port for it under that name.
    """

    name: ClassVar[str]

    async def start(self, plane: ControlPlane) -> int:
        """Begin to serve at `plane.address(name)`, and return the port, or 0 without one.

        Raises:
            AddressError: It is in use, see `ensure_free`.
        """

    async def stop(self) -> None:
        """End all calls and let go of the port; also after a `start` that failed."""


def ensure_free(host: str, port: int, argument: str) -> None:
    """Check that a port can be listened on, before others do so with messages of their own.

    Args:
        host: The address to listen on.
        port: The port; 0 is any that is free.
        argument: The argument of `ControlPlane` that sets it.

    Raises:
        AddressError: It cannot; names the port and the remedy.
    """
    if port:
        listening(host, port, argument).close()


def listening(host: str, port: int, argument: str) -> socket.socket:
    """Return a socket that listens on a port; arguments and errors as with `ensure_free`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        msg = (
            f"cannot listen on {host} port {port} ({reason}); "
            f"end what uses it, or give another one by {argument}=, 0 for any"
        )
        raise AddressError(msg, port=port) from None
