"""What the audit says of a command: its rows as one entry, what it changed, and which to look for.

Old and new values stand in a row as JSON: a plain value, of what the argument `path` names, or an
object by address, where a command changes several things.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ninelives_control.audit.canonical import CUT
from ninelives_control.audit.chain import Row, Status
from ninelives_control.paths import below, matches
from ninelives_grpc.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


class Outcome(StrEnum):
    """How a command in the audit has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    """It did not run."""
    REPEATED = "repeated"
    """It had run before, and its result was told once more."""
    UNFINISHED = "unfinished"
    """It was about to run, and nothing is known of its end: no row says so, it is found out."""
    INTERRUPTED = "interrupted"
    """The process ended while it ran: nobody knows how far it came."""
    PRUNED = "pruned"
    """It is no command: older rows were moved elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command in the audit, from its intent to its outcome.

    Attributes:
        seq: Number of its first row.
        time: When that was written, in RFC 3339, UTC.
        id: Its id.
        identity: Name of who asked, "" if unknown.
        role: Role of who asked, "" if unknown.
        proof: How it is known who asked, "" if that is not known.
        transport: By which way it came.
        peer: Address of who asked, "" in the process itself.
        command: Its name, as it was asked for.
        arguments: Its arguments as JSON, without secrets.
        status: How it ended.
        old: What was before, as JSON has it, or None where there is nothing; see `changes_of`.
        new: What is after, likewise.
        reason: The code of the error, or "".
        rule: The rule that allowed or refused it, "" where none did.
    """

    seq: int
    time: str
    id: str
    identity: str
    role: str
    proof: str
    transport: str
    peer: str
    command: str
    arguments: str
    status: Outcome
    old: object
    new: object
    reason: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueChange:
    """A value that a command has changed.

    Attributes:
        path: The address of what has it, "" where the command names none.
        old: The value before, None where there was none.
        new: The value after, None where there is none.
    """

    path: str
    old: object
    new: object


def changes_of(entry: Entry) -> tuple[ValueChange, ...]:
    """Return what a command has changed, by address; one that only tried has changed nothing.

    Nothing is told either of values that were too long to be kept, see `canonical`.
    """
    arguments = _arguments(entry)
    told = (entry.old, entry.new)
    if entry.status is not Outcome.SUCCEEDED or arguments.get("dry_run") is True:
        return ()
    if not any(isinstance(value, dict) for value in told):
        path = arguments.get("path", "")
        path = path if isinstance(path, str) else ""
        change = ValueChange(path=path, old=entry.old, new=entry.new)
        return () if told == (None, None) else (change,)
    if any(isinstance(value, dict) and CUT in value for value in told):
        return ()
    old, new = (value if isinstance(value, dict) else {} for value in told)
    return tuple(
        ValueChange(path=path, old=old.get(path), new=new.get(path)) for path in sorted(old | new)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries are meant: those that fit all that is given.

    Attributes:
        identity: Name of who asked.
        command: Name of the command.
        path: Pattern of an address that it was to act on, or that it changed; see `paths`.
        status: How it ended.
        transport: By which way it came.
        since: Not before then, by the clock of who wrote it.
        until: Before then, likewise.
    """

    identity: str | None = None
    command: str | None = None
    path: str | None = None
    status: Outcome | None = None
    transport: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def query(self, after: int, limit: int) -> tuple[str, list[object]]:
        """Return the SQL that selects rows for `entry_of`, and its parameters.

        The path is left to `fits`.
        """
        status = Status.INTENDED if self.status is Outcome.UNFINISHED else self.status
        conditions: dict[str, object] = {
            "first.identity = ?": self.identity,
            "first.command = ?": self.command,
            "first.transport = ?": self.transport,
            "last.status = ?": status,
            "first.time >= ?": self.since and _written(self.since),
            "first.time < ?": self.until and _written(self.until),
        }
        given = {text: value for text, value in conditions.items() if value is not None}
        where = "".join(f" AND {text}" for text in given)
        return f"{_ENTRIES}{where} ORDER BY first.seq LIMIT ?", [after, *given.values(), limit]

    def fits(self, entry: Entry) -> bool:
        """Tell whether an entry that was selected is meant."""
        pattern = self.path
        return pattern is None or any(matches(pattern, path) for path in _paths(entry))


_ENTRIES = f"""
SELECT {", ".join(f"first.{name}" for name in Row._fields)},
  last.status, last.old, last.new, last.reason
FROM audit AS first JOIN audit AS last
  ON last.seq = (SELECT max(seq) FROM audit WHERE id = first.id)
WHERE first.seq = (SELECT min(seq) FROM audit WHERE id = first.id) AND first.seq > ?
"""  # noqa: S608 - nothing in it comes from outside

BY_ID = f"{_ENTRIES} AND first.id = ?"
"""SQL that selects the rows of one command for `entry_of`; its parameters are 0 and the id."""


def entry_of(selected: tuple[Any, ...]) -> Entry:
    """Return as an entry what one of these queries has selected."""
    first, (status, old, new, reason) = Row(*selected[:-4]), selected[-4:]
    return Entry(
        seq=first.seq,
        time=first.time,
        id=first.id,
        identity=first.identity,
        role=first.role,
        proof=first.proof,
        transport=first.transport,
        peer=first.peer,
        command=first.command,
        arguments=first.arguments,
        status=Outcome.UNFINISHED if status == Status.INTENDED else Outcome(status),
        old=json.loads(old) if old else None,
        new=json.loads(new) if new else None,
        reason=reason,
        rule=first.rule,
    )


def _written(moment: datetime) -> str:
    """Write a moment as the column `time` has it."""
    return rfc3339(moment.astimezone(UTC), "microseconds")


def _arguments(entry: Entry) -> dict[str, object]:
    arguments = json.loads(entry.arguments)
    return arguments if isinstance(arguments, dict) else {}


def _paths(entry: Entry) -> Iterator[str]:
    """Go through the addresses that a command was to act on, or that it changed."""
    for change in changes_of(entry):
        yield change.path
    yield from _named(_arguments(entry))


def _named(arguments: object) -> Iterator[str]:
    if isinstance(arguments, list):
        for each in arguments:
            yield from _named(each)
    elif isinstance(arguments, dict):
        texts = {name: value for name, value in arguments.items() if isinstance(value, str)}
        found = texts.get("path") or below(texts.get("stack"), texts.get("policy"))
        if found:
            yield found
        for value in arguments.values():
            yield from _named(value)
