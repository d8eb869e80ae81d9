"""How much of the memory is used that the process may use.

The kernel ends a process that takes more than its control group may. What counts is what can not be
taken back: files that were read and are not in use (`inactive_file`) fill up any group, and go when
somebody needs the place.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ninelives_grpc.pressure import cgroup
from ninelives_grpc.pressure.kept_file import KeptFile

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path("/")
_UNLIMITED = 1 << 62
"""Version 1 has no word for "no limit", but a number about as large as there are."""


class Memory:
    """The share of the memory that is used.

    It is that of the first of these that there is: the limit that is given, for what this process
    holds; those of the control groups of version 2, of which the fullest counts, and of version 1;
    what this process holds and what is left on the machine. `psutil`, if it is installed, knows
    machines that have no `/proc`.
    """

    name = "memory"

    def __init__(
        self, limit: Callable[[], int | None] = lambda: None, *, root: Path = ROOT
    ) -> None:
        """Look for control groups.

        Args:
            limit: Returns how many bytes this process may hold, or None to find out.
            root: The root of the file system, for tests.
        """
        self._limit = limit
        self._own = Own(root)
        self._groups: list[Unified | Controlled] = [
            *(Unified(path) for path in cgroup.unified(root)),
            *(Controlled(path) for path in cgroup.controlled(root, "memory")),
        ]
        self._machine: Machine | PsutilMachine = (
            Machine(root, self._own)
            if cgroup.there(root / "proc/meminfo")
            else PsutilMachine(self._own)
        )

    def read(self) -> float | None:
        """Return the share, or None when nothing can be read."""
        limit = self._limit()
        if limit is not None:
            used = self._own.read()
            return None if used is None else used / limit
        shares = [share for share in (group.read() for group in self._groups) if share is not None]
        return max(shares) if shares else self._machine.read()


class Own:
    """The bytes that this process holds."""

    def __init__(self, root: Path) -> None:
        self._file = KeptFile(root / "proc/self/statm")
        self._page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def read(self) -> int | None:
        """Return the resident size."""
        text = self._file.read()
        if text is not None:
            return int(text.split(None, 2)[1]) * self._page
        psutil = _psutil()
        return None if psutil is None else int(psutil.Process().memory_info().rss)


class Unified:
    """A control group of version 2."""

    def __init__(self, path: Path) -> None:
        self._limits = [KeptFile(path / name) for name in ("memory.max", "memory.high")]
        self._current = KeptFile(path / "memory.current")
        self._stat = KeptFile(path / "memory.stat")

    def read(self) -> float | None:
        """Return the share of its limit that is used, or None when it has none."""
        limits = [each for each in (file.number() for file in self._limits) if each]
        if not limits:
            return None
        return _share(self._current.number(), self._stat.fields(b"inactive_file")[0], min(limits))


class Controlled:
    """A control group of version 1."""

    def __init__(self, path: Path) -> None:
        self._limit = KeptFile(path / "memory.limit_in_bytes")
        self._current = KeptFile(path / "memory.usage_in_bytes")
        self._stat = KeptFile(path / "memory.stat")

    def read(self) -> float | None:
        """Return the share of its limit that is used, or None when it has none."""
        limit = self._limit.number()
        if not limit or limit >= _UNLIMITED:
            return None
        return _share(self._current.number(), self._stat.fields(b"total_inactive_file")[0], limit)


def _share(used: int | None, reclaimable: int | None, limit: int) -> float | None:
    return None if used is None else max(0, used - (reclaimable or 0)) / limit


class Machine:
    """The whole machine, by `/proc/meminfo`: this process may have what it holds and what is left.

    What others hold is no fault of its own, and to refuse calls would not give it back.
    """

    def __init__(self, root: Path, own: Own) -> None:
        self._file = KeptFile(root / "proc/meminfo")
        self._own = own

    def read(self) -> float | None:
        """Return the share of that which it holds, or None when it can not be read."""
        (available,) = self._file.fields(b"MemAvailable:")
        return _of_what_is_left(self._own.read(), None if available is None else available * 1024)


class PsutilMachine:
    """The whole machine, by `psutil`."""

    def __init__(self, own: Own) -> None:
        self._own = own

    def read(self) -> float | None:
        """Return the same share, or None when `psutil` is not installed."""
        psutil = _psutil()
        available = None if psutil is None else int(psutil.virtual_memory().available)
        return _of_what_is_left(self._own.read(), available)


def _of_what_is_left(held: int | None, available: int | None) -> float | None:
    return None if not held or available is None else held / (held + available)


class _Psutil(Protocol):
    Process: Any
    virtual_memory: Any


def _psutil() -> _Psutil | None:
    try:
        found: Any = importlib.import_module("psutil")
    except ImportError:
        return None
    return found  # type: ignore[no-any-return]
