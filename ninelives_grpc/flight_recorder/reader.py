"""Read what a flight recorder has left behind."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.flight_recorder.layout import STATES, Entry, entry_at, header_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event that was recorded.

    Attributes:
        number: Its place in the order in which they came, from 1.
        fields: What it told: time, event, severity, stack, policy, method, attempt, reason, why and
            details; without the last when they did not fit.
    """

    number: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a file holds.

    Attributes:
        pid: Process that wrote it.
        started: When that began, seconds since 1970.
        written: When it wrote the last time, seconds since 1970, or None if it never did.
        events: The last events, oldest first.
        stacks: The state of each stack by name: its policies, with parameters, and its traffic.
        left_out: Stacks whose state did not fit.
        lost: Events that came too many at once to be written.
        damaged: Entries that were being written when the process ended.
    """

    pid: int
    started: float
    written: float | None
    events: tuple[Recorded, ...]
    stacks: dict[str, Any]
    left_out: int
    lost: int
    damaged: int


def read(path: Path | str) -> Recording:
    """Read the file of a flight recorder, also while it is being written.

    Raises:
        ConfigError: It cannot be read, or is no such file; says why.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None
    try:
        return _recording(data)
    except ValueError as error:
        raise ConfigError(str(error), path=str(path)) from None


def _recording(data: bytes) -> Recording:
    header = header_of(data)
    states, torn_states = _entries(
        data, [header.state_at(n) for n in range(STATES)], header.state_size
    )
    slots = [header.slot_at(n) for n in range(header.slots)]
    entries, torn = _entries(data, slots, header.slot_size)
    state = _object(states[-1]) if states else {}
    stacks = state.get("stacks")
    written = [entry.written for entry in (*states[-1:], *entries) if math.isfinite(entry.written)]
    return Recording(
        pid=header.pid,
        started=header.started,
        written=max(written, default=None),
        events=tuple(
            Recorded(number=entry.number, fields=fields)
            for entry in entries
            if (fields := _object(entry))
        ),
        stacks=stacks if isinstance(stacks, dict) else {},
        left_out=_count(state.get("left_out")),
        lost=_count(state.get("lost")),
        damaged=torn + torn_states,
    )


def _entries(data: bytes, places: list[int], size: int) -> tuple[list[Entry], int]:
    """Return what is whole, oldest first, and how much is not."""
    whole, torn = [], 0
    for at in places:
        try:
            entry = entry_at(data, at, size)
        except LookupError:
            continue
        if entry is None:
            torn += 1
        else:
            whole.append(entry)
    return sorted(whole), torn


def _object(entry: Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
