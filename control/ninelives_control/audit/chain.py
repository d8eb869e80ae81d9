"""A chain of rows, each of which holds the hash of the one before it, and how it is checked.

Whoever changes, removes or adds a row in the middle breaks the chain there. Rows cut off at the end
leave a good chain that is too short: that shows only against an anchor kept elsewhere. With a key,
nobody without it can make a row that fits, nor the whole chain anew. A chain whose beginning was
pruned starts with the hash of the last row that went, and one of its rows says so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START = "0" * 64
"""What stands in the first row as the hash of the one before it."""

_ADDED = 13
"""Where in a row the three columns stand that version 1 of the file did not have."""
_JSON = json.JSONEncoder(separators=(",", ":"), default=repr)


class Status(StrEnum):
    """What a row tells of a command."""

    INTENDED = "intended"
    """It is about to run."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    """It did not run."""
    REPEATED = "repeated"
    """It had run before, and its result was told once more."""
    UNFINISHED = "unfinished"
    """It was about to run, and nothing is known of its end; no row says so, it is found out."""
    INTERRUPTED = "interrupted"
    """The process ended while it ran: nobody knows how far it came."""
    PRUNED = "pruned"
    """It is no command: the rows before the anchor in `new` were moved elsewhere."""


class Row(NamedTuple):
    """One row, in the order of its columns.

    Attributes:
        seq: Its number, from 1 without gaps.
        time: When it was written, in RFC 3339, UTC.
        id: Id of the command; the two rows of one that ran have the same.
        identity: Name of who issued it, "" if unknown.
        role: Role of who issued it, "" if unknown.
        transport: By which way it came.
        command: Its name, as it was asked for.
        arguments: Its arguments as JSON, with sorted keys.
        status: What the row tells.
        old: The value before as JSON, "" where there is none.
        new: The value after as JSON, "" where there is none.
        reason: The code of the error, "" where there is none.
        rule: The rule of authorization that allowed or refused it, "" where none did.
        proof: How it is known who issued it, "" if that is not known.
        peer: Address of who issued it, "" in the process itself.
        life: Which life of a process has written the row, "" before version 2 of the file.
        previous: Hash of the row before.
        hash: Hash of all the above.
    """

    seq: int
    time: str
    id: str
    identity: str
    role: str
    transport: str
    command: str
    arguments: str
    status: str
    old: str
    new: str
    reason: str
    rule: str
    proof: str
    peer: str
    life: str
    previous: str
    hash: str

    def sealed(self, key: bytes | None) -> Row:
        """Return the row with its hash."""
        return self._replace(hash=self.digest(key))

    def digest(self, key: bytes | None) -> str:
        """Return the hash that the row ought to have."""
        told: tuple[object, ...] = self[:-1]
        if not (self.proof or self.peer or self.life):
            # As version 1 of the file had it: what it wrote goes on to verify.
            told = (*told[:_ADDED], *told[_ADDED + 3 :])
        content = _JSON.encode(told).encode("ascii")
        if key is None:
            return hashlib.sha256(content).hexdigest()
        return hmac.new(key, content, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Anchor:
    """Number and hash of a row, kept somewhere else than the chain."""

    seq: int
    hash: str

    def __str__(self) -> str:
        """Show it in the form that `parse` reads."""
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Read `SEQ:HASH`.

        Raises:
            ValueError: It is not of that form.
        """
        seq, _, digest = text.partition(":")
        if not seq.isdecimal() or len(digest) != len(START):
            msg = f"an anchor is SEQ:HASH, as `ninelives audit verify` prints it, not {text!r}"
            raise ValueError(msg)
        return cls(int(seq), digest)


class Flaw(StrEnum):
    """What is wrong with a row."""

    EDITED = "edited"
    DELETED = "deleted"
    RENUMBERED = "renumbered"
    INSERTED = "inserted"
    CUT_OFF = "cut_off"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first place at which a chain is broken.

    Attributes:
        seq: Number of the row.
        flaw: What is wrong with it.
        message: One sentence.
    """

    seq: int
    flaw: Flaw
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a walk along a chain has found.

    Attributes:
        start: The last row before the first one, when that was pruned, or None.
        head: The last row, to be kept as an anchor, or None when there never was any.
        finding: The first place at which it is broken, or None.
        unfinished: Ids of the commands that were about to run, and whose end is not known.
    """

    start: Anchor | None
    head: Anchor | None
    finding: Finding | None
    unfinished: tuple[str, ...]


BEGINNING = Anchor(0, START)
"""What a chain starts after of which nothing was pruned."""


def verify(
    rows: Iterable[Row],
    *,
    key: bytes | None,
    anchors: Iterable[Anchor] = (),
    marks: Iterable[Anchor] = (),
    start: Anchor = BEGINNING,
) -> Verification:
    """Walk along a chain up to the first row that does not fit.

    Args:
        rows: All rows, by number.
        key: The key that the chain was written with.
        anchors: Rows that are known to have been there; those before the start are passed over.
        marks: Rows that are known as well, but that may come after the end.
        start: The last row that was pruned.
    """
    anchors = tuple(anchors)
    known: dict[int, set[str]] = {}
    for anchor in (*anchors, *marks):
        known.setdefault(anchor.seq, set()).add(anchor.hash)
    head = start
    open_ids: dict[str, None] = {}
    finding = _against(start, known)
    for row in rows:
        finding = finding or _flaw(row, head, key) or _against(Anchor(row.seq, row.hash), known)
        if finding is not None:
            break
        head = Anchor(row.seq, row.hash)
        if row.status == Status.INTENDED:
            open_ids[row.id] = None
        else:
            open_ids.pop(row.id, None)
    last = max((anchor.seq for anchor in anchors), default=0)
    if finding is None and head.seq < last:
        message = f"the chain ends with row {head.seq}, but there was a row {last}"
        finding = Finding(seq=head.seq + 1, flaw=Flaw.CUT_OFF, message=message)
    return Verification(
        start=start if start.seq else None,
        head=head if head.seq else None,
        finding=finding,
        unfinished=tuple(open_ids),
    )


def tells_of(row: Row, start: Anchor) -> bool:
    """Tell whether a row says that all up to an anchor was pruned."""
    return row.status == Status.PRUNED and row.new == json.dumps(str(start))


def _flaw(row: Row, before: Anchor, key: bytes | None) -> Finding | None:
    expected = before.seq + 1
    intact = row.hash == row.digest(key)
    if row.seq == expected and intact and row.previous == before.hash:
        return None
    if not intact and row.previous == before.hash:
        if row._replace(seq=expected).digest(key) == row.hash:
            message = f"row {expected} has the number {row.seq}"
            return Finding(seq=expected, flaw=Flaw.RENUMBERED, message=message)
        message = f"row {row.seq} was edited, or written with another key"
        return Finding(seq=row.seq, flaw=Flaw.EDITED, message=message)
    if row.seq != expected:
        last = row.seq - 1
        gone = f"row {expected}" if last == expected else f"rows {expected} to {last}"
        message = f"{gone} {'was' if last == expected else 'were'} deleted"
        return Finding(seq=expected, flaw=Flaw.DELETED, message=message)
    message = f"row {row.seq} does not follow row {before.seq}: one was inserted or written anew"
    return Finding(seq=row.seq, flaw=Flaw.INSERTED, message=message)


def _against(row: Anchor, known: Mapping[int, set[str]]) -> Finding | None:
    if known.get(row.seq, {row.hash}) == {row.hash}:
        return None
    message = f"row {row.seq} is not the one that was anchored"
    return Finding(seq=row.seq, flaw=Flaw.REPLACED, message=message)
