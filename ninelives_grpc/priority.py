"""How much a call matters: a class, and a level within it, carried from hop to hop in metadata."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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

DEFAULT_RANK: Rank = (Priority.NORMAL, LEVELS // 2)


def rank_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Rank:
    """Read class and level from metadata; what is missing or unreadable is the default."""
    priority, level = DEFAULT_RANK
    for key, value in metadata or ():
        if key == PRIORITY_KEY:
            word = value.upper() if isinstance(value, str) else ""
            priority = Priority[word] if word in Priority.__members__ else DEFAULT_RANK[0]
        elif key == LEVEL_KEY and isinstance(value, str) and value.isdecimal():
            level = min(int(value[:3]), LEVELS - 1)
    return priority, level
