"""What was made of files, and is made again whenever one of them has changed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")
Signature = tuple[int, int, int]

_LOGGER = logging.getLogger("ninelives_control")
_COARSE = 100_000_000
"""Nanoseconds within which two writes may leave the same time on a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[T]):
    """What files said when they were last in order.

    Attributes:
        value: What was made of that.
        problem: What is wrong with them now, or "".
    """

    value: T
    problem: str = ""


class Reloaded(Generic[T]):
    """Files whose content is in force as long as no later one is in order.

    Args:
        paths: The files.
        load: Makes something of them; raises `ConfigError`, which names the file, if it cannot.

    Raises:
        ConfigError: One is broken from the start.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Load for the first time."""
        self._paths = tuple(paths)
        self._load = load
        self._lock = threading.Lock()
        self._said: list[bytes | None] = []
        self._seen, value = self._fresh()
        self._loaded = Loaded(value=value)

    def current(self) -> T:
        """Return what is in force."""
        return self.loaded().value

    def loaded(self) -> Loaded[T]:
        """Return what is in force, all of one version of the files, and what is wrong with them."""
        with self._lock:
            if self._seen is None or self._signatures() != self._seen:
                self._look()
            return self._loaded

    def _look(self) -> None:
        before, signatures = self._loaded, self._signatures()
        if self._read() == self._said:
            self._seen = _settled(signatures)
            return
        try:
            self._seen, value = self._fresh()
        except ConfigError as error:
            self._seen, self._said = _settled(signatures), self._read()
            self._loaded = Loaded(value=before.value, problem=str(error))
            if self._loaded.problem != before.problem:
                _LOGGER.error(  # noqa: TRY400 - no trace
                    "what %s said before stays in force: %s; mend it, and it is taken",
                    self._named(),
                    error,
                )
            return
        self._loaded = Loaded(value=value)
        if before.problem or value != before.value:
            _LOGGER.info("%s has changed, and is in force", self._named())

    def _fresh(self) -> tuple[tuple[Signature, ...] | None, T]:
        """Load a version that did not change meanwhile, as far as the file system can tell."""
        while True:
            signatures, self._said = self._signatures(), self._read()
            value = self._load()
            if self._signatures() == signatures:
                return _settled(signatures), value

    def _read(self) -> list[bytes | None]:
        return [_bytes_in(path) for path in self._paths]

    def _signatures(self) -> tuple[Signature, ...]:
        return tuple(signature(path) for path in self._paths)

    def _named(self) -> str:
        return " and ".join(str(path) for path in self._paths)


def _settled(signatures: tuple[Signature, ...]) -> tuple[Signature, ...] | None:
    """Return None if one was just written: one more write might leave the same signature."""
    fresh = any(abs(time.time_ns() - written) < _COARSE for written, _, _ in signatures)
    return None if fresh else signatures


def _bytes_in(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def signature(path: Path) -> Signature:
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
