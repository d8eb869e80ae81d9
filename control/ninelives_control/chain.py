"""A chain of rows, each of which holds the hash of the one before it, and how it is checked.

Whoever changes, removes or adds a row in the middle breaks the chain there. Rows cut off at the end
leave a good chain that is too short: that shows only against an anchor kept elsewhere. With a key,
nobody without it can make a row that fits, nor the whole chain anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

START = "0" * 64
"""What stands in the first row as the hash of the one before it."""


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
    previous: str
    hash: str

    def sealed(self, key: bytes | None) -> Row:
        """Return the row with its hash."""
        return self._replace(hash=self.digest(key))

    def digest(self, key: bytes | None) -> str:
        """Return the hash that the row ought to have."""
        content = json.dumps(self[:-1], separators=(",", ":"), default=repr).encode("ascii")
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
        head: The last row, to be kept as an anchor, or None when there is none.
        finding: The first place at which it is broken, or None.
        unfinished: Ids of the commands that were about to run, and whose end is not known.
    """

    head: Anchor | None
    finding: Finding | None
    unfinished: tuple[str, ...]


def verify(rows: Iterable[Row], *, key: bytes | None, anchor: Anchor | None) -> Verification:
    """Walk along a chain up to the first row that does not fit.

    Args:
        rows: All rows, by number.
        key: The key that the chain was written with.
        anchor: A row that is known to have been there.
    """
    head = Anchor(0, START)
    open_ids: dict[str, None] = {}
    finding = None
    for row in rows:
        finding = _flaw(row, head, key) or _against(row, anchor)
        if finding is not None:
            break
        head = Anchor(row.seq, row.hash)
        if row.status == Status.INTENDED:
            open_ids[row.id] = None
        else:
            open_ids.pop(row.id, None)
    if finding is None and anchor is not None and head.seq < anchor.seq:
        message = f"the chain ends with row {head.seq}, but there was a row {anchor.seq}"
        finding = Finding(seq=head.seq + 1, flaw=Flaw.CUT_OFF, message=message)
    return Verification(
        head=head if head.seq else None, finding=finding, unfinished=tuple(open_ids)
    )


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


def _against(row: Row, anchor: Anchor | None) -> Finding | None:
    if anchor is None or row.seq != anchor.seq or row.hash == anchor.hash:
        return None
    message = f"row {row.seq} is not the one that was anchored"
    return Finding(seq=row.seq, flaw=Flaw.REPLACED, message=message)
