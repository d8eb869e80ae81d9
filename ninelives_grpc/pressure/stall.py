"""How long tasks have waited for memory or CPU: pressure stall information (PSI) of Linux.

`some avg10` is the share of the last ten seconds in which at least one task waited. Of memory it
rises while the kernel looks for pages to take back, before it ends a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.pressure import cgroup
from ninelives_grpc.pressure.kept_file import KeptFile
from ninelives_grpc.pressure.memory import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_BEGIN = b"some avg10="


class Stall:
    """The share of time in which something waited, by the control group or the machine."""

    def __init__(self, resource: str, *, root: Path = ROOT) -> None:
        """Look for the file.

        Args:
            resource: `memory` or `cpu`.
            root: The root of the file system, for tests.
        """
        self.name = f"{resource}_stall"
        paths = [path / f"{resource}.pressure" for path in cgroup.unified(root)]
        found = next((path for path in paths if cgroup.there(path)), None)
        self._file = KeptFile(found or root / "proc/pressure" / resource)

    def read(self) -> float | None:
        """Return the share, or None when the kernel does not tell."""
        text = self._file.read()
        if text is None or not text.startswith(_BEGIN):
            return None
        return float(text[len(_BEGIN) :].split(None, 1)[0]) / 100.0
