"""Verify an audit together with what was exported of it, and against its signed heads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ninelives_control.audit import chain
from ninelives_control.audit.chain import Anchor, Finding, Flaw, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ninelives_control.audit.chain import Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a file.

    Attributes:
        start: The row before the first one.
        pruned: The same, if the file itself says that all up to it was pruned, or None.
        rows: All rows, by number.
        whole: Whether nothing comes after the last one.
    """

    start: Anchor
    pruned: Anchor | None
    rows: Iterable[Row]
    whole: bool


class Part(Protocol):
    """A file with rows of an audit."""

    def opened(self) -> AbstractContextManager[Rows]:
        """Read the file as it is now.

        Raises:
            AuditError: It cannot be read; also within.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRows:
    """What was signed of an audit.

    Attributes:
        heads: Rows that have been the last one.
        pruned: Those up to which it was pruned on purpose.
    """

    heads: Sequence[Anchor]
    pruned: Sequence[Anchor]


def verify(
    parts: Sequence[Part],
    *,
    key: bytes | None,
    anchors: Iterable[Anchor] = (),
    signed: SignedRows | None = None,
) -> Verification:
    """Walk along a chain that goes through several files, up to the first row that does not fit.

    Args:
        parts: The files, oldest first.
        key: The key that the chain was written with.
        anchors: Rows that are known to have been there.
        signed: What was signed of it, if that is known.
    """
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(part.opened()) for part in parts]
        pruned = [part.pruned for part in opened if part.pruned is not None]
        heads = [] if signed is None else [*signed.heads, *signed.pruned]
        required = heads if opened[-1].whole else []
        told: set[Anchor] = set()

        def rows() -> Iterator[Row]:
            for part in opened:
                for row in part.rows:
                    told.update(start for start in pruned if chain.tells_of(row, start))
                    yield row

        found = chain.verify(
            rows(),
            key=key,
            anchors=[*anchors, *required, *pruned],
            marks=heads,
            start=opened[0].start,
        )
    if found.finding is not None:
        return found
    for start in pruned:
        if start not in told:
            return _gone(found, start, "no row says")
        if signed is not None and start not in signed.pruned:
            return _gone(found, start, "nobody has signed")
    return found


def _gone(found: Verification, start: Anchor, who: str) -> Verification:
    message = f"the rows up to {start.seq} are gone, and {who} that they were pruned"
    finding = Finding(seq=start.seq, flaw=Flaw.CUT_OFF, message=message)
    return chain.Verification(
        start=found.start, head=found.head, finding=finding, unfinished=found.unfinished
    )
