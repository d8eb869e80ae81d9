"""Count what each identity has changed by each rule in the last hour."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOUR = 3600.0
MAX_COUNTED = 100_000
"""Changes remembered of all identities together: what would be one more has to wait."""

Key = tuple[str, str]
"""Name of the identity, and id of the rule."""


class Quota:
    """Remembers when changes were made, for an hour, in bounded memory.

    Args:
        now: Returns seconds that only ever grow.
        capacity: Changes remembered at most.
    """

    def __init__(self, now: Callable[[], float], capacity: int = MAX_COUNTED) -> None:
        """Begin with none."""
        self._now = now
        self._capacity = capacity
        self._order: deque[Key] = deque()
        self._made: dict[Key, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, key: Key, limit: int, changes: int) -> float:
        """Return the seconds until so many more changes fit below a limit; inf if they never do."""
        with self._lock:
            return self._wait(key, limit, changes)

    def take(self, wanted: Mapping[Key, tuple[int, int]]) -> bool:
        """Count changes if all of them fit, or else none.

        Args:
            wanted: The limit, and the number of changes, by key.
        """
        with self._lock:
            if any(self._wait(key, *entry) > 0 for key, entry in wanted.items()):
                return False
            now = self._now()
            for key, (_, changes) in wanted.items():
                self._order.extend([key] * changes)
                self._made.setdefault(key, deque()).extend([now] * changes)
            return True

    def _wait(self, key: Key, limit: int, changes: int) -> float:
        now = self._now()
        self._forget(now)
        made = self._made.get(key, ())
        if changes > min(limit, self._capacity):
            return math.inf
        until = 0.0
        if len(made) + changes > limit:
            until = made[len(made) + changes - limit - 1] + HOUR - now
        if len(self._order) + changes > self._capacity:
            oldest = self._made[self._order[0]][0]
            until = max(until, oldest + HOUR - now)
        return until

    def _forget(self, now: float) -> None:
        while self._order and self._made[self._order[0]][0] + HOUR <= now:
            made = self._made[self._order[0]]
            made.popleft()
            if not made:
                del self._made[self._order[0]]
            self._order.popleft()
