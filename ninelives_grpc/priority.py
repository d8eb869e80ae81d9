"""How much a call matters: a class, and a level within it, carried from hop to hop in metadata."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from grpc.aio import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    Pairs = Iterable[tuple[str, str | bytes]]

PRIORITY_KEY = "x-ninelives-priority"
LEVEL_KEY = "x-ninelives-level"
LEVELS = 100


class Priority(IntEnum):
    """Five classes; the lower the number, the longer a call is served."""

    CRITICAL = 0
    """Without it the system cannot be operated: authentication, configuration, control."""
    HIGH = 1
    """Somebody waits for it right now."""
    NORMAL = 2
    """The default."""
    LOW = 3
    """It can be repeated later."""
    BACKGROUND = 4
    """Nobody would notice if it were skipped."""


Rank = tuple[Priority, int]
"""A class and a level from 0 (first served) to 99."""
RANKS = len(Priority) * LEVELS
"""How many ranks there are."""


def number_of(rank: Rank) -> int:
    """Return the place of a rank among all, 0 for the first served."""
    return rank[0] * LEVELS + rank[1]


def given_rank(metadata: Pairs | None) -> tuple[Priority | None, int | None]:
    """Read class and level from metadata; None for what is missing or unreadable."""
    priority, level = None, None
    for key, value in metadata or ():
        if key == PRIORITY_KEY:
            word = value.upper() if isinstance(value, str) else ""
            priority = Priority[word] if word in Priority.__members__ else None
        elif key == LEVEL_KEY and isinstance(value, str) and value.isdecimal():
            level = min(int(value[:3]), LEVELS - 1)
    return priority, level


def with_rank(metadata: Pairs | None, rank: Rank) -> Metadata | tuple[tuple[str, str | bytes], ...]:
    """Return metadata that says this rank and no other."""
    others = (pair for pair in metadata or () if pair[0] not in {PRIORITY_KEY, LEVEL_KEY})
    said = ((PRIORITY_KEY, rank[0].name.lower()), (LEVEL_KEY, str(rank[1])))
    pairs = (*others, *said)
    return Metadata(*pairs) if isinstance(metadata, Metadata) else pairs
