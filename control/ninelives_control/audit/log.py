"""Every command that was asked for, in a log that cannot be altered unseen.

A command that changes something is written down before it runs and again when it has ended; one
that is refused is written down once. The rows are a hash chain in SQLite, see `chain`. If a process
ends between the two, whoever opens the file next finds that out and writes it down, see `lives`.
The end of the chain is signed from time to time, see `heads`, and its beginning may be moved
elsewhere, see `retention`. Old and new values and filters are those of `entries`.

The numbers of the rows are their order; the times are those of the clock of whoever wrote them,
which may go back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ninelives_control import database
from ninelives_control.audit import store as audit_store
from ninelives_control.audit import verification
from ninelives_control.audit.chain import BEGINNING, START, Anchor, Row, Status
from ninelives_control.audit.entries import (
    BY_ID,
    Entry,
    EntryFilter,
    Outcome,
    ValueChange,
    changes_of,
    entry_of,
)
from ninelives_control.audit.lives import Life
from ninelives_control.audit.verification import Rows
from ninelives_control.errors import AuditError
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ninelives_control.audit.chain import Verification
    from ninelives_control.audit.heads import HeadFile

__all__ = [
    "Attempt",
    "AuditFile",
    "AuditLog",
    "Entry",
    "EntryFilter",
    "EntryPage",
    "Outcome",
    "ValueChange",
    "changes_of",
]

_LOGGER = logging.getLogger("ninelives_control")
_COLUMNS = ", ".join(Row._fields)
_MARKS = ", ".join("?" * len(Row._fields))
_SIGNED_ROWS = 100
"""After so many rows the end of the chain is signed."""
_MOST_LOOKED_AT = 2_000
"""Entries that a page may be searched in, so that a filter that fits none takes no minutes."""
_OPEN = f"""
SELECT {_COLUMNS} FROM audit AS first WHERE status = 'intended' AND life <> ?
  AND NOT EXISTS (SELECT 1 FROM audit WHERE id = first.id AND seq > first.seq)
ORDER BY seq
"""  # noqa: S608 - nothing in it comes from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A command that was asked for.

    Attributes:
        id: Its id.
        transport: By which way it came.
        command: Its name, as it was asked for.
        arguments: Its arguments as JSON without secrets, see `canonical`.
        identity: Name of who asks, "" if unknown.
        role: Role of who asks, "" if unknown.
        rule: The rule that allowed or refused it, "" where none did.
        proof: How it is known who asks, "" if that is not known.
        peer: Address of who asks, "" in the process itself.
    """

    id: str
    transport: str
    command: str
    arguments: str
    identity: str = ""
    role: str = ""
    rule: str = ""
    proof: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Some of the entries that were asked for.

    Attributes:
        entries: Oldest first.
        next: To be passed as `after` to go on from here.
        more: Whether there may be more already.
    """

    entries: tuple[Entry, ...]
    next: int
    more: bool


class AuditFile:
    """An audit to be read, whoever writes it."""

    def __init__(self, path: Path | None, *, key: bytes | None = None) -> None:
        """Point at a file; `key` is what the chain was written with."""
        self.path = path
        self._key = key

    def entries(
        self, *, after: int = 0, limit: int = 1000, wanted: EntryFilter | None = None
    ) -> list[Entry]:
        """Return one entry a command, oldest first.

        Args:
            after: Leave out entries up to that number.
            limit: Entries to return at most.
            wanted: Which ones; all by default.

        Raises:
            AuditError: The file cannot be read.
        """
        found: list[Entry] = []
        while True:
            page = self.page(after=after, limit=limit - len(found), wanted=wanted)
            found.extend(page.entries)
            after = page.next
            if not page.more or len(found) == limit:
                return found

    def page(self, *, after: int, limit: int, wanted: EntryFilter | None = None) -> EntryPage:
        """Return some of the entries; fewer than `limit` also when many do not fit.

        Arguments and errors as with `entries`.
        """
        wanted = wanted or EntryFilter()
        found: list[Entry] = []
        query, values = wanted.query(after, _MOST_LOOKED_AT + 1)
        with self._reading() as connection:
            for looked_at, selected in enumerate(connection.execute(query, values)):
                if len(found) == limit or looked_at == _MOST_LOOKED_AT:
                    return EntryPage(entries=tuple(found), next=after, more=True)
                entry = entry_of(selected)
                after = entry.seq
                if wanted.fits(entry):
                    found.append(entry)
        return EntryPage(entries=tuple(found), next=after, more=False)

    def entry(self, id: str) -> Entry:  # noqa: A002 - that is what it is called
        """Return the entry of one command.

        Raises:
            UnknownNameError: There is no command with that id.
            AuditError: The file cannot be read.
        """
        with self._reading() as connection:
            selected = connection.execute(BY_ID, (0, id)).fetchone()
        if selected is None:
            raise UnknownNameError("command in the audit", id, ())
        return entry_of(selected)

    def verify(self, *, anchors: Iterable[Anchor] = ()) -> Verification:
        """Walk along the chain and name the first row that does not fit.

        Args:
            anchors: Rows that are known to have been there: finds rows cut off at the end.

        Raises:
            AuditError: The file cannot be read.
        """
        return verification.verify([self], key=self._key, anchors=anchors)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Rows]:
        """Read all rows, as they are now.

        Raises:
            AuditError: The file cannot be read; also within.
        """
        with self._reading() as connection:
            start = _start(connection)
            rows = connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY seq")  # noqa: S608
            yield Rows(
                start=start,
                pruned=start if start.seq else None,
                rows=(Row(*row) for row in rows),
                whole=True,
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connected() as connection:
                yield connection
        except sqlite3.Error as error:
            msg = f"the audit {self.path} cannot be read: {error}"
            raise AuditError(msg) from error

    def _connected(self) -> AbstractContextManager[sqlite3.Connection]:
        assert self.path is not None
        return contextlib.closing(audit_store.readable(self.path))


class AuditLog(AuditFile):
    """An audit to be written.

    Several processes may write to one file and keep one chain. One that forks opens it afterwards.

    Args:
        path: The file, made with mode 0600 if it is missing; None keeps it in memory.
        key: Secret that seals the rows: without it nobody can make one that fits.
        patience: Seconds to wait for another process that writes.
        heads: Where its ends are signed.
        now: What tells the time.

    Raises:
        ConfigError: The file cannot be opened, or is something else; names it.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        key: bytes | None = None,
        patience: float = 5.0,
        heads: HeadFile | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Open or make it."""
        super().__init__(path, key=key)
        self._lock = threading.Lock()
        self._heads = heads
        self._signed: Anchor | None = None
        self._now = now
        try:
            with contextlib.ExitStack() as undo:
                self._connection = audit_store.writable(path, patience)
                undo.callback(self._connection.close)
                self._file = database.identity_of(path)
                self._life = Life(path)
                undo.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the audit cannot be opened: {error}", path=str(path)) from None

    def append(
        self, attempt: Attempt, status: Status, *, old: str = "", new: str = "", reason: str = ""
    ) -> None:
        """Write one row, and return when it is on the disk.

        Raises:
            AuditError: It could not be written.
        """
        row = self._row(attempt, status, old=old, new=new, reason=reason)
        with self._writing():
            written = self._insert(row)
        if written.seq % _SIGNED_ROWS == 0:
            self._sign(written)

    def end_interrupted(self) -> list[Entry]:
        """Write down which commands were cut short, as their process has ended; return them.

        Those of other processes that go on are none of them.

        Raises:
            AuditError: It could not be written.
        """
        with self._writing():
            rows = [Row(*row) for row in self._connection.execute(_OPEN, (self._life.id,))]
            # Looked at after the rows: whoever has written one of them has begun to live before.
            alive = self._life.others()
            cut_short = [row for row in rows if row.life not in alive]
            for row in cut_short:
                self._insert(self._row(_attempt(row), Status.INTERRUPTED))
        return [self.entry(row.id) for row in cut_short]

    def forget(self, last: Anchor, attempt: Attempt) -> None:
        """Remove all rows up to one, and write down that it was so; see `retention`.

        Raises:
            AuditError: Nothing was removed.
        """
        new = json.dumps(str(last))
        with self._writing():
            self._insert(self._row(attempt, Status.PRUNED, new=new))
            self._connection.execute("INSERT INTO pruned VALUES (?, ?)", (last.seq, last.hash))
            self._connection.execute("DELETE FROM audit WHERE seq <= ?", (last.seq,))

    def head(self) -> Anchor | None:
        """Return the last row, to be kept somewhere else as an anchor; None if there is none.

        Raises:
            AuditError: The file cannot be read.
        """
        with self._reading() as connection:
            found = _head(connection)
        return found if found.seq else None

    def sign(self) -> None:
        """Sign the last row, if that is wanted and was not done; what goes wrong is logged."""
        try:
            head = self.head()
        except AuditError as error:
            _LOGGER.error("%s", error)  # noqa: TRY400 - no trace
            return
        if head is not None:
            self._sign(head)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()
        self._life.end()

    def _sign(self, row: Anchor) -> None:
        # The row is on the disk, so its command goes on whatever becomes of this.
        if self._heads is None or row == self._signed:
            return
        try:
            head = self._heads.add(row)
        except OSError as error:
            _LOGGER.error("the end of the audit cannot be signed: %s", error)  # noqa: TRY400
            return
        self._signed = row
        _LOGGER.info("signed head of the audit: %s", head)

    def _row(
        self, attempt: Attempt, status: Status, *, old: str = "", new: str = "", reason: str = ""
    ) -> Row:
        return Row(
            seq=0,
            time=rfc3339(self._now(), "microseconds"),
            **dataclasses.asdict(attempt),
            status=status,
            old=old,
            new=new,
            reason=reason,
            life=self._life.id,
            previous=START,
            hash="",
        )

    def _insert(self, row: Row) -> Anchor:
        head = _head(self._connection)
        sealed = row._replace(seq=head.seq + 1, previous=head.hash).sealed(self._key)
        self._connection.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES ({_MARKS})", sealed)  # noqa: S608
        return Anchor(sealed.seq, sealed.hash)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            try:
                database.must_be(self.path, self._file)
                with database.writing(self._connection):
                    yield
            except (OSError, UnicodeError, sqlite3.Error) as error:
                raise AuditError(f"the audit cannot be written: {error}") from error

    def _connected(self) -> AbstractContextManager[sqlite3.Connection]:
        return super()._connected() if self.path is not None else self._shared()

    @contextlib.contextmanager
    def _shared(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection


def _start(connection: sqlite3.Connection) -> Anchor:
    found = connection.execute("SELECT seq, hash FROM pruned ORDER BY seq DESC LIMIT 1").fetchone()
    return Anchor(*found) if found else BEGINNING


def _head(connection: sqlite3.Connection) -> Anchor:
    found = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return Anchor(*found) if found else _start(connection)


def _attempt(row: Row) -> Attempt:
    """Return the attempt of which a row tells."""
    names = [field.name for field in dataclasses.fields(Attempt)]
    return Attempt(**{name: getattr(row, name) for name in names})
