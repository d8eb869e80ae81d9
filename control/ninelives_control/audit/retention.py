"""Move the beginning of an audit to a file of its own, so that both parts go on to be verified.

What goes is a whole number of commands, all of them older than a moment. It is verified, exported,
and then removed; the chain that stays says up to which row, and with signed heads that is signed.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.audit import heads
from ninelives_control.audit.chain import Anchor, Row, Status
from ninelives_control.audit.exports import line_of
from ninelives_control.audit.log import Attempt
from ninelives_control.errors import AuditError
from ninelives_grpc.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from ninelives_control.audit.heads import HeadFile
    from ninelives_control.audit.log import AuditLog

PRUNE = "prune_audit"
"""What stands as the command in the row that tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What has gone.

    Attributes:
        rows: How many rows.
        last: The last of them.
    """

    rows: int
    last: Anchor


def prune(
    log: AuditLog,
    *,
    before: datetime,
    to: Path,
    signed: HeadFile | None,
    identity: str = "",
) -> Pruned | None:
    """Move all commands that have ended before a moment; None if there are none.

    Args:
        log: The audit.
        before: The moment, in UTC.
        to: A file to be made.
        signed: Where heads of the audit are signed, if they are.
        identity: Who wants it, for the audit.

    Raises:
        AuditError: The chain is broken, or a file cannot be written; nothing was removed.
        FileExistsError: The file is there already; nothing was removed.
    """
    found = log.verify()
    if found.finding is not None:
        raise AuditError(f"nothing was pruned, as the audit is broken: {found.finding.message}")
    with log.opened() as part:
        last = _last(part.rows, rfc3339(before, "microseconds"))
    if last is None:
        return None
    with log.opened() as part:
        rows = _export((row for row in part.rows if row.seq <= last.seq), to)
    if signed is not None:
        # Before they go: afterwards it might not be possible.
        try:
            signed.add(last, heads.Kind.PRUNED)
        except OSError as error:
            raise AuditError(f"nothing was pruned, as nothing can be signed: {error}") from None
    arguments = {"before": rfc3339(before), "rows": rows, "to": to.name}
    attempt = Attempt(
        id=uuid.uuid4().hex,
        transport="file",
        command=PRUNE,
        arguments=json.dumps(arguments),
        identity=identity,
    )
    log.forget(last, attempt)
    log.sign()
    return Pruned(rows=rows, last=last)


def _last(rows: Iterable[Row], before: str) -> Anchor | None:
    """Return the last row up to which all are older, and no command is torn apart."""
    last = None
    running: set[str] = set()
    for row in rows:
        if row.time >= before:
            break
        if row.status == Status.INTENDED:
            running.add(row.id)
        else:
            running.discard(row.id)
        if not running:
            last = Anchor(row.seq, row.hash)
    return last


def _export(rows: Iterable[Row], to: Path) -> int:
    """Write rows to a new file, and return how many when they are on the disk."""
    count = 0
    try:
        made = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w", encoding="ascii") as file:
            for row in rows:
                file.write(line_of(row) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise
    except OSError as error:
        raise AuditError(f"nothing was pruned, as {to} cannot be written: {error}") from None
    return count
