"""Write events to a file, one JSON object a line."""

from __future__ import annotations

import json
import math
import threading
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ninelives_grpc.clock import rfc3339, wall_moment
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event


def line_of(event: Event) -> str:
    """Return an event as a JSON object, without a line end."""
    fields = {
        "time": rfc3339(wall_moment(event.at), "microseconds"),
        "event": event.name,
        "severity": str(event.severity),
        "stack": event.stack,
        "policy": event.policy,
        "method": event.method,
        "attempt": event.attempt,
        "reason": event.reason,
        "why": event.why(),
        "details": {name: _plain(value) for name, value in event.details().items()},
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """Return what JSON knows; what is not a number is a text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class JsonLinesSink(Sink):
    """Writes each event as a line, and begins a new file when one is full.

    Writing takes as long as the file system does, so it belongs behind a `NonBlockingSink` where
    that may be long. Nothing is synced to the disk; each line is handed to the system whole.

    Args:
        to: A path, to which lines are appended, or an open text file, which stays open.
        size: Bytes after which a file is full: `events.jsonl` becomes `events.jsonl.1` then, and so
            on. Of an open file there is only one, however long.
        files: Full ones to keep; the oldest is deleted.
        routine: Whether it writes the events of every good call as well.

    Raises:
        OSError: The file cannot be opened.
        ValueError: A number is less than 1.
    """

    def __init__(
        self,
        to: Path | str | TextIO,
        *,
        size: int = 64 << 20,
        files: int = 4,
        routine: bool = False,
    ) -> None:
        """Open the file."""
        if size < 1 or files < 1:
            msg = f"size and files must be at least 1, not {size} and {files}"
            raise ValueError(msg)
        self.routine = routine
        self._path = Path(to) if isinstance(to, str | Path) else None
        self._limit = size
        self._files = files
        self._lock = threading.Lock()
        self._written = 0
        self._file: TextIO | None = self._open() if isinstance(to, str | Path) else to
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Write one line.

        Raises:
            OSError: The system did not take it.
            ValueError: The sink is closed.
        """
        line = line_of(event) + "\n"
        with self._lock:
            if self._file is None:
                raise ValueError("the sink is closed")
            if self._path is not None and self._written >= self._limit:
                self._rotate()
            self._file.write(line)
            self._file.flush()
            self._written += len(line.encode())

    def close(self) -> None:
        """Close the file that it opened itself."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None and self._path is not None:
            file.close()

    def _open(self) -> TextIO:
        assert self._path is not None
        file = self._path.open("a", encoding="utf-8")
        self._written = file.tell()
        return file

    def _rotate(self) -> None:
        assert self._path is not None
        assert self._file is not None
        self._file.close()
        files = [self._path]
        files += [self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._files)]
        try:
            for newer, older in reversed(tuple(pairwise(files))):
                if newer.exists():
                    newer.replace(older)
        finally:
            # Also when a file could not be moved: what comes next is to be written somewhere.
            self._file = self._open()
