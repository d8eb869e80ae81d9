"""What was made of files, and is made again when they have changed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")
_LOGGER = logging.getLogger("ninelives_control")


class Reloaded(Generic[T]):
    """Keeps what files said when they were good last; that they are broken is logged once.

    Args:
        paths: The files.
        load: Makes something of them; raises a `ConfigError` if it cannot.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Load for the first time.

        Raises:
            ConfigError: What `load` raises.
        """
        self._paths = tuple(paths)
        self._load = load
        self._lock = threading.Lock()
        self._seen = self._signatures()
        self._made = load()

    def current(self) -> T:
        """Return what the files say now, or said when they were good last."""
        with self._lock:
            signatures = self._signatures()
            if signatures != self._seen:
                # Taken before: what changes while it is loaded is loaded once more.
                self._seen = signatures
                try:
                    self._made = self._load()
                except ConfigError as error:
                    _LOGGER.error("what was read before holds on: %s", error)  # noqa: TRY400
            return self._made

    def _signatures(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(signature(path) for path in self._paths)


def signature(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def content(path: Path, setting: str) -> bytes:
    """Return what is in the file that a setting names.

    Raises:
        ConfigError: It cannot be read; names both.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", path=setting) from None
