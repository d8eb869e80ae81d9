"""Read a small file of the kernel over and over, for the price of one system call."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ninelives_grpc.forking import afresh_in_children

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 16_384


class KeptFile:
    """A file that stays open, opened at its first reading and again in forked children.

    Again, as what stands below `/proc/self` is about the process that has opened it.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        afresh_in_children(self)

    def read(self) -> bytes | None:
        """Return what is in it now, or None when it can not be read."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            return os.pread(self._descriptor, _LONGEST, 0)
        except OSError:
            # Such as ENODEV of a cgroup that has been removed: the path may lead to another soon.
            self.close()
            return None

    def number(self) -> int | None:
        """Return the number that it holds, or None where it holds none, such as `max`."""
        text = self.read()
        return int(text) if text and text.strip().isdigit() else None

    def fields(self, *names: bytes) -> tuple[int | None, ...]:
        """Return the numbers behind words at the beginning of lines, None for one not found."""
        text = self.read()
        return tuple(None if text is None else _field(text, name) for name in names)

    def close(self) -> None:
        """Close it; another reading opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def start_afresh(self) -> None:
        """Open it again in a forked child, which has descriptors of its own."""
        self.close()

    def __del__(self) -> None:
        self.close()


def _field(text: bytes, name: bytes) -> int | None:
    start = 0 if text.startswith(name) else text.find(b"\n" + name) + 1
    words = text[start : start + 80].split(None, 2)
    return int(words[1]) if words[:1] == [name] and words[1:] and words[1].isdigit() else None
