"""The SQLite file of the audit: made, opened, and told apart from others.

Version 2 has three columns more than version 1, and knows what was pruned. A file of version 1 is
read as it is, and becomes one of version 2 when it is opened to be written.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

from ninelives_control.database import opening, writing

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 2
_PAUSE = 0.01

_FIRST = (
    """
    CREATE TABLE audit (
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
    )
    """,
    "CREATE INDEX audit_id ON audit (id)",
    """
    CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
)
_SECOND = (
    "ALTER TABLE audit ADD COLUMN proof TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE audit ADD COLUMN peer TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE audit ADD COLUMN life TEXT NOT NULL DEFAULT ''",
    # The last row that was pruned, each time.
    "CREATE TABLE pruned (seq INTEGER PRIMARY KEY, hash TEXT NOT NULL)",
    "DROP TRIGGER IF EXISTS audit_keeps_rows",
    "DROP TRIGGER IF EXISTS audit_keeps_order",
    """
    CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
    WHEN OLD.seq > (SELECT coalesce(max(seq), 0) FROM pruned)
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
    """
    CREATE TRIGGER audit_keeps_order BEFORE INSERT ON audit
    WHEN NEW.seq <> 1 + coalesce(
      (SELECT max(seq) FROM audit), (SELECT max(seq) FROM pruned), 0)
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
    # Rows go only once one of those that stay says so.
    """
    CREATE TRIGGER pruned_is_told BEFORE INSERT ON pruned
    WHEN NOT EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq AND hash = NEW.hash)
      OR NOT EXISTS (
        SELECT 1 FROM audit WHERE seq > NEW.seq AND status = 'pruned'
          AND new = '"' || NEW.seq || ':' || NEW.hash || '"')
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
    """
    CREATE TRIGGER pruned_keeps_rows BEFORE DELETE ON pruned
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
    """
    CREATE TRIGGER pruned_keeps_values BEFORE UPDATE ON pruned
    BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END
    """,
)
_AS_SECOND = (
    "CREATE TEMP VIEW audit AS SELECT *, '' AS proof, '' AS peer, '' AS life FROM main.audit",
    "CREATE TEMP VIEW pruned AS SELECT 0 AS seq, '' AS hash WHERE 0",
)


def writable(path: Path | None, patience: float) -> sqlite3.Connection:
    """Open an audit to be written, or make it; None keeps it in memory.

    Args:
        path: The file, made with mode 0600 if it is missing.
        patience: Seconds to wait for other processes.

    Raises:
        OSError: The file cannot be made.
        sqlite3.Error: It cannot be opened, or is something else.
    """
    with opening(path, patience) as connection:
        _prepare(connection, time.monotonic() + patience)
    return connection


def readable(path: Path) -> sqlite3.Connection:
    """Open an audit to be read, as it is now, whatever is written meanwhile.

    Raises:
        sqlite3.Error: It is not there, or cannot be opened.
    """
    file = path.resolve()
    if not file.is_file():
        raise sqlite3.OperationalError("no such file")
    connection = _connected(f"{file.as_uri()}?mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        # A copy in a folder that cannot be written to has no room for a lock file.
        connection = _connected(f"{file.as_uri()}?mode=ro&immutable=1")
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        if _version(connection) < _VERSION:
            for statement in _AS_SECOND:
                connection.execute(statement)
        connection.execute("BEGIN")
        undo.pop_all()
    return connection


def _connected(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


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
    tables = connection.execute(
        "SELECT count(*) FROM sqlite_master "
        "WHERE type = 'table' AND name NOT IN ('audit', 'pruned')"
    ).fetchone()[0]
    if _version(connection) not in range(_VERSION + 1) or tables:
        raise sqlite3.DatabaseError("it is another database, or of another version")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if _version(connection) == _VERSION:
        return
    with writing(connection):
        # Another process may have been quicker.
        version = _version(connection)
        steps = (_FIRST + _SECOND, _SECOND, ())[version]
        for statement in steps:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
