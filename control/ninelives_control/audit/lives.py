"""Which of the processes that write an audit still live: each holds a lock for as long as it does.

The lock is on a file beside the audit, so that it ends with the process, however that ends. It says
nothing of processes on other machines, which cannot write to the same audit anyway.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from ninelives_control.database import identity_of
from ninelives_grpc.forking import afresh_in_children

try:
    import fcntl
except ImportError:  # pragma: no cover - there is none on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

_MARK = ".life-"


class Life:
    """One life of a process, from when it opens an audit to when it closes it.

    Attributes:
        id: Stands in each row that it writes.
    """

    def __init__(self, audit: Path | None) -> None:
        """Begin; an audit in memory has one life only, which needs no lock.

        Raises:
            OSError: The file beside the audit cannot be made.
        """
        self.id = uuid.uuid4().hex[:16]
        self._audit = audit
        self._path = None if audit is None else audit.with_name(f"{audit.name}{_MARK}{self.id}")
        self._file: int | None = None
        if self._path is not None:
            self._file = _begun(self._path)
            afresh_in_children(self)

    def start_afresh(self) -> None:
        """Let go of the file in a forked child, which would hold the lock after its parent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def others(self) -> set[str]:
        """Return the ids of the lives that go on, this one too; the marks of dead ones go."""
        if self._audit is None:
            return {self.id}
        alive = set()
        for path in self._audit.parent.glob(f"{self._audit.name}{_MARK}*"):
            if not _buried(path):
                alive.add(path.name.rpartition(_MARK)[2])
        return alive

    def end(self) -> None:
        """Let go of the lock; may be called twice."""
        file, self._file = self._file, None
        if file is None or self._path is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(file)


def _begun(path: Path) -> int:
    """Make the file and lock it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _locked(file) and _is(file, path):
            return file
        # Somebody took it for a mark that was left behind, between the two.
        os.close(file)


def _buried(path: Path) -> bool:
    """Remove the mark of a life that has ended; False if it goes on."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        # It is somebody else's: better not to speak of the end of what may go on.
        return False
    try:
        if not _locked(file):
            return False
        if _is(file, path):
            with contextlib.suppress(OSError):
                path.unlink()
        return True
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    if fcntl is None:  # pragma: no cover - see above
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(file: int, path: Path) -> bool:
    """Tell whether an open file is still the one at a path."""
    status = os.fstat(file)
    with contextlib.suppress(FileNotFoundError):
        return (status.st_dev, status.st_ino) == identity_of(path)
    return False
