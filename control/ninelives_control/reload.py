"""A file that is read again whenever it has changed; a broken one leaves what was read before."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_LOGGER = logging.getLogger("ninelives_control")
_COARSE = 100_000_000
"""Nanoseconds within which two writes may leave the same time on a file."""

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[T]):
    """What a file said when it was last in order.

    Attributes:
        value: That.
        problem: What is wrong with the file now, or "".
    """

    value: T
    problem: str = ""


class ReloadedFile(Generic[T]):
    """A file whose content is in force as long as no later one is in order.

    Args:
        path: The file.
        read: Reads it; raises `ConfigError`, which names the file, if it is broken.

    Raises:
        ConfigError: It is broken from the start.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        """Read the file."""
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._seen, value = self._fresh()
        self._loaded = Loaded(value=value)

    def current(self) -> Loaded[T]:
        """Return what is in force: all of one version of the file, never parts of two."""
        with self._lock:
            if self._seen is None or _signature(self._path) != self._seen:
                self._look()
            return self._loaded

    def _look(self) -> None:
        before = self._loaded
        try:
            self._seen, value = self._fresh()
        except ConfigError as error:
            self._seen = _settled(_signature(self._path))
            self._loaded = Loaded(value=before.value, problem=str(error))
            if self._loaded.problem != before.problem:
                _LOGGER.error(  # noqa: TRY400 - no trace
                    "what %s said before stays in force: %s; mend it, and it is taken",
                    self._path,
                    error,
                )
            return
        self._loaded = Loaded(value=value)
        if before.problem or value != before.value:
            _LOGGER.info("%s has changed, and is in force", self._path)

    def _fresh(self) -> tuple[Signature | None, T]:
        """Read a version that did not change meanwhile, as far as the file system can tell."""
        while True:
            signature = _signature(self._path)
            value = self._read(self._path)
            if _signature(self._path) == signature:
                return _settled(signature), value


def _settled(signature: Signature) -> Signature | None:
    """Return None for a file just written: one more write might leave the same signature."""
    return None if abs(time.time_ns() - signature[0]) < _COARSE else signature


def _signature(path: Path) -> Signature:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
