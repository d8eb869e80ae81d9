"""Where the control groups of this process are, from its own up to the root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def unified(root: Path) -> list[Path]:
    """Return the directories of its groups in version 2, its own first; none without it.

    Args:
        root: The root of the file system, for tests.
    """
    mounted = root / "sys/fs/cgroup"
    return _upwards(mounted, _path_of(root, "")) if there(mounted / "cgroup.controllers") else []


def controlled(root: Path, controller: str) -> list[Path]:
    """Return the directories of its groups for a controller of version 1, its own first.

    Args:
        root: The root of the file system, for tests.
        controller: Such as `memory`.
    """
    mounted = root / "sys/fs/cgroup" / controller
    return _upwards(mounted, _path_of(root, controller)) if there(mounted) else []


def there(path: Path) -> bool:
    """Tell whether a file can be found: one below a directory that is closed to us can not be."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises then


def _path_of(root: Path, controller: str) -> str:
    """Return the path in a hierarchy, as `/proc/self/cgroup` has it: `ID:CONTROLLERS:PATH`."""
    try:
        lines = os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines()
    except OSError:
        return "/"
    for line in lines:
        controllers, found, path = line.partition(":")[2].partition(":")
        of = controllers.split(",")
        if found and controller in of and bool(controller) == bool(controllers):
            return path
    return "/"


def _upwards(mounted: Path, path: str) -> list[Path]:
    # In a container the path may be the host's, of which nothing is mounted but its end.
    return [each for each in _parents(mounted, path) if there(each)]


def _parents(mounted: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        yield mounted.joinpath(*parts[:length])
