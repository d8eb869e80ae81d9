"""Every command that was asked for, in a log that cannot be altered unseen.

A command that changes something is written down before it runs and again when it has ended; one
that is refused is written down once. The rows are a hash chain in SQLite, see `chain`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ninelives_control import audit_store, chain
from ninelives_control.chain import START, Row, Status
from ninelives_control.errors import AuditError
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ninelives_control.chain import Anchor, Verification
    from ninelives_control.model import ParameterValue

_COLUMNS = ", ".join(Row._fields)
_ENTRIES = f"""
SELECT {", ".join(f"first.{name}" for name in Row._fields)},
  last.status, last.old, last.new, last.reason
FROM audit AS first JOIN audit AS last
  ON last.seq = (SELECT max(seq) FROM audit WHERE id = first.id)
WHERE first.seq = (SELECT min(seq) FROM audit WHERE id = first.id) AND first.seq > ?
ORDER BY first.seq LIMIT ?
"""  # noqa: S608 - nothing in it comes from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A command that was asked for.

    Attributes:
        id: Its id.
        transport: By which way it came.
        command: Its name, as it was asked for.
        arguments: Its arguments as JSON, see `canonical`.
        identity: Name of who asks, "" if unknown.
        role: Role of who asks, "" if unknown.
        rule: The rule that allowed or refused it, "" where none did.
    """

    id: str
    transport: str
    command: str
    arguments: str
    identity: str = ""
    role: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command in the audit, from its intent to its outcome.

    Attributes:
        seq: Number of its first row.
        time: When that was written, in RFC 3339, UTC.
        id: Its id.
        identity: Name of who asked, "" if unknown.
        role: Role of who asked, "" if unknown.
        transport: By which way it came.
        command: Its name, as it was asked for.
        arguments: Its arguments as JSON.
        status: How it ended: succeeded, failed, refused or unfinished.
        old: The value before, or None where there is none.
        new: The value after, or None where there is none.
        reason: The code of the error, or "".
        rule: The rule that allowed or refused it, "" where none did.
    """

    seq: int
    time: str
    id: str
    identity: str
    role: str
    transport: str
    command: str
    arguments: str
    status: Status
    old: ParameterValue
    new: ParameterValue
    reason: str
    rule: str


class AuditFile:
    """An audit to be read, whoever writes it."""

    def __init__(self, path: Path | None, *, key: bytes | None = None) -> None:
        """Point at a file; `key` is what the chain was written with."""
        self.path = path
        self._key = key

    def entries(self, *, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Return one entry a command, oldest first.

        Args:
            after: Leave out entries up to that number.
            limit: Entries to return at most.

        Raises:
            AuditError: The file cannot be read.
        """
        with self._reading() as connection:
            rows = connection.execute(_ENTRIES, (after, limit)).fetchall()
        return [_entry(Row(*row[: len(Row._fields)]), *row[len(Row._fields) :]) for row in rows]

    def entry(self, id: str) -> Entry:  # noqa: A002 - that is what it is called
        """Return the entry of one command.

        Raises:
            UnknownNameError: There is no command with that id.
            AuditError: The file cannot be read.
        """
        found = next((entry for entry in self.entries(limit=-1) if entry.id == id), None)
        if found is None:
            raise UnknownNameError("command in the audit", id, ())
        return found

    def verify(self, *, anchor: Anchor | None = None) -> Verification:
        """Walk along the chain and name the first row that does not fit.

        Args:
            anchor: A row that is known to have been there: finds rows cut off at the end.

        Raises:
            AuditError: The file cannot be read.
        """
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY seq")  # noqa: S608
            return chain.verify((Row(*row) for row in rows), key=self._key, anchor=anchor)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connected() as connection:
                yield connection
        except sqlite3.Error as error:
            msg = f"the audit {self.path} cannot be read: {error}"
            raise AuditError(msg) from error

    def _connected(self) -> AbstractContextManager[sqlite3.Connection]:
        return contextlib.closing(audit_store.readable(self.path or Path()))


class AuditLog(AuditFile):
    """An audit to be written.

    Several processes may write to one file and keep one chain. One that forks opens it afterwards.

    Args:
        path: The file, made with mode 0600 if it is missing; None keeps it in memory.
        key: Secret that seals the rows: without it nobody can make one that fits.
        patience: Seconds to wait for another process that writes.

    Raises:
        ConfigError: The file cannot be opened, or is something else; names it.
    """

    def __init__(
        self, path: Path | None = None, *, key: bytes | None = None, patience: float = 5.0
    ) -> None:
        """Open or make it."""
        super().__init__(path, key=key)
        self._lock = threading.Lock()
        try:
            self._connection = audit_store.writable(path, patience)
            self._file = audit_store.identity_of(path)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the audit cannot be opened: {error}", path=str(path)) from None

    def append(
        self, attempt: Attempt, status: Status, *, old: str = "", new: str = "", reason: str = ""
    ) -> None:
        """Write one row, and return when it is on the disk.

        Raises:
            AuditError: It could not be written.
        """
        row = Row(
            seq=0,
            time=rfc3339(datetime.now(UTC), "microseconds"),
            id=attempt.id,
            identity=attempt.identity,
            role=attempt.role,
            transport=attempt.transport,
            command=attempt.command,
            arguments=attempt.arguments,
            status=status,
            old=old,
            new=new,
            reason=reason,
            rule=attempt.rule,
            previous=START,
            hash="",
        )
        with self._lock:
            try:
                self._write(row)
            except (OSError, UnicodeError, sqlite3.Error) as error:
                raise AuditError(f"the audit cannot be written: {error}") from error

    def head(self) -> Anchor | None:
        """Return the last row, to be kept somewhere else as an anchor; None if there is none.

        Raises:
            AuditError: The file cannot be read.
        """
        with self._reading() as connection:
            found = _head(connection)
        return found if found.seq else None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _write(self, row: Row) -> None:
        if audit_store.identity_of(self.path) != self._file:
            raise OSError("the file was removed or replaced; start the control plane again")
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            head = _head(connection)
            sealed = row._replace(seq=head.seq + 1, previous=head.hash).sealed(self._key)
            marks = ", ".join("?" * len(Row._fields))
            connection.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES ({marks})", sealed)  # noqa: S608
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> AbstractContextManager[sqlite3.Connection]:
        return super()._connected() if self.path is not None else self._shared()

    @contextlib.contextmanager
    def _shared(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection


def _head(connection: sqlite3.Connection) -> Anchor:
    found = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return chain.Anchor(*(found or (0, START)))


def _entry(first: Row, status: str, old: str, new: str, reason: str) -> Entry:
    unfinished = status == Status.INTENDED
    return Entry(
        seq=first.seq,
        time=first.time,
        id=first.id,
        identity=first.identity,
        role=first.role,
        transport=first.transport,
        command=first.command,
        arguments=first.arguments,
        status=Status.UNFINISHED if unfinished else Status(status),
        old=json.loads(old) if old else None,
        new=json.loads(new) if new else None,
        reason=reason,
        rule=first.rule,
    )
