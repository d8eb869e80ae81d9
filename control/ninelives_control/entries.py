"""What a command has changed, as the audit says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.chain import Status

if TYPE_CHECKING:
    from ninelives_control.audit import Entry


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
    """Return what a command has changed, by address; one that only tried has changed nothing."""
    arguments = _arguments(entry)
    told = (entry.old, entry.new)
    if entry.status is not Status.SUCCEEDED or arguments.get("dry_run") is True:
        return ()
    if not any(isinstance(value, dict) for value in told):
        given = arguments.get("path", "")
        path = given if isinstance(given, str) else ""
        change = ValueChange(path=path, old=entry.old, new=entry.new)
        return () if told == (None, None) else (change,)
    old: dict[str, object] = entry.old if isinstance(entry.old, dict) else {}
    new: dict[str, object] = entry.new if isinstance(entry.new, dict) else {}
    return tuple(
        ValueChange(path=path, old=old.get(path), new=new.get(path)) for path in sorted(old | new)
    )


def _arguments(entry: Entry) -> dict[str, object]:
    arguments = json.loads(entry.arguments)
    return arguments if isinstance(arguments, dict) else {}
