"""SQLite files for their owner only: opened, told apart, and written to all or nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def opening(path: Path | None, patience: float) -> Iterator[sqlite3.Connection]:
    """Open a file to be written, or make it with mode 0600; None is one in memory.

    If what is done within raises, it is closed again.

    Args:
        path: The file.
        patience: Seconds to wait for other processes.

    Raises:
        OSError: The file cannot be made.
        sqlite3.Error: It cannot be opened.
    """
    if path is not None:
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that is written within, or nothing.

    Raises:
        sqlite3.Error: Nothing could be written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def identity_of(path: Path | None) -> tuple[int, int]:
    """Tell files apart: the disk and the inode.

    Raises:
        OSError: The file is not there.
    """
    if path is None:
        return (0, 0)
    status = path.stat()
    return (status.st_dev, status.st_ino)


def must_be(path: Path | None, identity: tuple[int, int]) -> None:
    """Look whether the file at a path is still the one that was opened.

    Raises:
        OSError: It is not.
    """
    if identity_of(path) != identity:
        raise OSError("the file was removed or replaced; start the control plane again")
