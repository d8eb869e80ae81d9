"""Rows of the audit as JSON lines, which go on to be verified: `ninelives audit export`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from ninelives_control.audit.chain import BEGINNING, Anchor, Row
from ninelives_control.audit.verification import Rows
from ninelives_control.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


def line_of(row: Row) -> str:
    """Return a row as a line, without its end."""
    return json.dumps(row._asdict(), separators=(",", ":"))


class Export:
    """Rows that were exported or pruned, to be read.

    What came before the first one is not known here: it is taken for granted.
    """

    def __init__(self, path: Path) -> None:
        """Point at a file."""
        self.path = path

    @contextlib.contextmanager
    def opened(self) -> Iterator[Rows]:
        """Read the file as it is now.

        Raises:
            AuditError: It cannot be read, or has something else in it; names the line.
        """
        start = self._start()
        with contextlib.closing(self._rows()) as rows:
            yield Rows(start=start, pruned=None, rows=rows, whole=False)

    def _start(self) -> Anchor:
        with contextlib.closing(self._rows()) as rows:
            first = next(rows, None)
        if first is None or first.seq == 1:
            return BEGINNING
        return Anchor(first.seq - 1, first.previous)

    def _rows(self) -> Generator[Row]:
        try:
            with self.path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    yield self._row(line, number)
        except (OSError, UnicodeDecodeError) as error:
            raise AuditError(f"the audit {self.path} cannot be read: {error}") from None

    def _row(self, line: str, number: int) -> Row:
        try:
            row = Row(**json.loads(line))
        except (TypeError, ValueError, RecursionError):
            row = None
        if row is None or not _is_row(row):
            msg = f"the audit {self.path} cannot be read: line {number} is no row of an audit"
            raise AuditError(msg)
        return row


def _is_row(row: Row) -> bool:
    texts = row[1:]
    return type(row.seq) is int and all(isinstance(text, str) for text in texts)
