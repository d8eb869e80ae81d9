"""Parameters that are kept over restarts, in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ninelives_control.database import identity_of, must_be, opening, writing
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError, NinelivesError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ninelives_control.model import ParameterValue

_VERSION = 1
_PATIENCE = 5.0
"""Seconds to wait for another process that writes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS parameters (
  path TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  time TEXT NOT NULL,
  command TEXT NOT NULL
)
"""


class StoreError(NinelivesError):
    """The parameters cannot be kept."""


class ParameterStore:
    """Values by address; each has the time and the id of the command that set it.

    Args:
        path: The file, made with mode 0600 if it is missing.

    Raises:
        ConfigError: The file cannot be opened, or is something else; names it.
    """

    def __init__(self, path: Path) -> None:
        """Open or make it."""
        self._path = path
        self._lock = threading.Lock()
        try:
            with opening(path, _PATIENCE) as self._connection:
                self._file = identity_of(path)
                self._prepare()
        except (OSError, sqlite3.Error) as error:
            msg = f"the parameters cannot be kept there: {error}"
            raise ConfigError(msg, path=str(path)) from None

    def values(self, stack: str) -> dict[str, ParameterValue]:
        """Return what is kept for a stack, by address.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            with self._lock:
                rows = self._connection.execute("SELECT path, value FROM parameters").fetchall()
            start = f"{stack}/"
            return {path: json.loads(value) for path, value in rows if path.startswith(start)}
        except (ValueError, sqlite3.Error) as error:
            raise StoreError(f"the parameters cannot be read: {error}") from None

    def keep(
        self, values: Mapping[str, ParameterValue], *, forget: Collection[str], command: str
    ) -> None:
        """Keep values and forget others, all of them or none; return when they are on the disk.

        Args:
            values: What to keep, by address.
            forget: The addresses of what to forget.
            command: The id of the command that wants it.

        Raises:
            StoreError: They could not be written.
        """
        time = rfc3339(datetime.now(UTC), "microseconds")
        rows = [(path, json.dumps(value), time, command) for path, value in values.items()]
        try:
            with self._lock:
                must_be(self._path, self._file)
                with writing(self._connection):
                    self._write(rows, [(path,) for path in forget])
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the parameters cannot be kept: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        others = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name <> 'parameters'"
        ).fetchone()[0]
        if version not in {0, _VERSION} or others:
            raise sqlite3.DatabaseError("it is another database, or of another version")
        connection.execute("PRAGMA synchronous = FULL")
        with writing(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _write(self, rows: list[tuple[str, str, str, str]], forget: list[tuple[str]]) -> None:
        self._connection.executemany("DELETE FROM parameters WHERE path = ?", forget)
        self._connection.executemany("INSERT OR REPLACE INTO parameters VALUES (?, ?, ?, ?)", rows)
