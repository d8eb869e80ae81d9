"""The SQLite file of the audit: made, opened, and told apart from others."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 1
_PAUSE = 0.01

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS audit (
  seq INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  id TEXT NOT NULL,
  identity TEXT NOT NULL,
  role TEXT NOT NULL,
  transport TEXT NOT NULL,
  command TEXT NOT NULL,
  arguments TEXT NOT NULL,
  status TEXT NOT NULL,
  old TEXT NOT NULL,
  new TEXT NOT NULL,
  reason TEXT NOT NULL,
  rule TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_id ON audit (id);
CREATE TRIGGER IF NOT EXISTS audit_keeps_rows BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER IF NOT EXISTS audit_keeps_values BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
CREATE TRIGGER IF NOT EXISTS audit_keeps_order BEFORE INSERT ON audit
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END;
PRAGMA user_version = 1;
COMMIT;
"""


def writable(path: Path | None, patience: float) -> sqlite3.Connection:
    """Open an audit to be written, or make it; None keeps it in memory.

    Args:
        path: The file, made with mode 0600 if it is missing.
        patience: Seconds to wait for other processes.

    Raises:
        OSError: The file cannot be made.
        sqlite3.Error: It cannot be opened, or is something else.
    """
    if path is not None:
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
    )
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        _prepare(connection, time.monotonic() + patience)
        undo.pop_all()
    return connection


def readable(path: Path) -> sqlite3.Connection:
    """Open an audit to be read.

    Raises:
        sqlite3.Error: It is not there, or cannot be opened.
    """
    file = path.resolve()
    if not file.is_file():
        raise sqlite3.OperationalError("no such file")
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        # A copy in a folder that cannot be written to has no room for a lock file.
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)
    return connection


def identity_of(path: Path | None) -> tuple[int, int]:
    """Tell files apart: the disk and the inode.

    Raises:
        OSError: The file is not there.
    """
    if path is None:
        return (0, 0)
    status = path.stat()
    return (status.st_dev, status.st_ino)


def _prepare(connection: sqlite3.Connection, until: float) -> None:
    while True:
        try:
            return _prepare_once(connection)
        except sqlite3.OperationalError:
            # Turning to WAL fails, without waiting, while another process does so too.
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE)


def _prepare_once(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name <> 'audit'"
    ).fetchone()[0]
    if version not in {0, _VERSION} or tables:
        raise sqlite3.DatabaseError("it is another database, or of another version")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version != _VERSION:
        connection.executescript(_SCHEMA)
