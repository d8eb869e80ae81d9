"""Listen on Unix sockets that only the user of this process can reach."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ninelives_control.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_MODE = 0o600
_LONGEST = 107
"""Bytes that the path of a socket may have (unix(7))."""
_HIDDEN = len("/.12345678/s")
_PATIENCE = 1.0


def placed(path: Path, argument: str, listen: Callable[[Path], T]) -> T:
    """Listen at a path, with a socket that has its mode before anybody can find it.

    Args:
        path: Where; a socket that nobody listens at any more is replaced.
        argument: The argument of `ControlPlane` that sets it.
        listen: Makes a socket at the path that it is given, and listens.

    Raises:
        AddressError: It cannot; names the path and the remedy.
    """
    _ensure_free(path, argument)
    try:
        # A folder that nobody else may look into. A socket that is moved goes on listening.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            hidden = Path(folder, "s")
            listening = listen(hidden)
            hidden.chmod(_MODE)
            hidden.replace(path)
    except (OSError, RuntimeError) as error:
        raise _unusable(path, argument, getattr(error, "strerror", None) or str(error)) from None
    return listening


def listening_at(path: Path) -> socket.socket:
    """Return a socket that listens at a path."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise
    return listener


def removed(path: Path) -> None:
    """Remove the socket at a path, which nobody listens at any more."""
    with contextlib.suppress(OSError):
        path.unlink()


def _ensure_free(path: Path, argument: str) -> None:
    if max(len(os.fsencode(path)), len(os.fsencode(path.parent)) + _HIDDEN) > _LONGEST:
        raise _unusable(path, argument, "the path is too long")
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise _unusable(path, argument, "it is there, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise _unusable(path, argument, error.strerror or str(error)) from None
    raise _unusable(path, argument, "it is in use")


def _unusable(path: Path, argument: str, reason: str) -> AddressError:
    msg = (
        f"cannot listen on {path} ({reason}); end what uses it, or give another path by {argument}="
    )
    return AddressError(msg, port=0)
