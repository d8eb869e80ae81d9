"""What happened in the last minute, five minutes and quarter of an hour, in little memory.

Fine slots of 5 s cover the last minute, slots of 15 s the time back to five minutes, and slots of a
minute the time back to fifteen. A slot that grows old is merged into the next coarser one.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple


class Level(NamedTuple):
    """Slots of one width, and how far back they reach, in seconds."""

    width: float
    horizon: float


LEVELS = (Level(5.0, 60.0), Level(15.0, 300.0), Level(60.0, 900.0))
SLOT = LEVELS[0].width
"""Seconds of a fine slot."""
HORIZONS = tuple(level.horizon for level in LEVELS)
"""The windows that can be asked for, in seconds."""


class Slot:
    """Calls that ended in one stretch of time.

    Attributes:
        start: When it begins.
        results: How many ended how: "success", "failure", "ignored", "refused".
        durations: Durations of those that reached the backend and came back, by bucket.
    """

    __slots__ = ("durations", "results", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.results: Counter[str] = Counter()
        self.durations: Counter[int] = Counter()

    def merge(self, other: Slot) -> None:
        """Take in what another one holds."""
        self.results.update(other.results)
        self.durations.update(other.durations)


class SlidingWindow:
    """Calls of the last fifteen minutes; one thread at a time."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: tuple[deque[Slot], ...] = tuple(deque() for _ in LEVELS)

    def add(self, at: float, result: str, calls: int, durations: Counter[int]) -> None:
        """Take in calls that ended alike within the slot of the time `at`, oldest slot first.

        Args:
            at: A time within the slot.
            result: How they ended.
            calls: How many they are.
            durations: Their durations by bucket, of those that have one.
        """
        slot = self._slot(0, at)
        slot.results[result] += calls
        slot.durations.update(durations)

    def total(self, horizon: float, now: float) -> Slot:
        """Return everything of the last `horizon` seconds, one of `HORIZONS`, to the slot."""
        self._roll(now)
        total = Slot(now - horizon)
        for level, slots in zip(LEVELS, self._levels, strict=True):
            if level.horizon > horizon:
                break
            for slot in slots:
                total.merge(slot)
        return total

    def _slot(self, index: int, at: float) -> Slot:
        slots = self._levels[index]
        start = at - at % LEVELS[index].width
        if not slots or slots[-1].start < start:
            slots.append(Slot(start))
            self._roll(at)
        return slots[-1]

    def _roll(self, now: float) -> None:
        for index, level in enumerate(LEVELS):
            slots = self._levels[index]
            while slots and slots[0].start + level.width <= now - level.horizon:
                old = slots.popleft()
                if index + 1 < len(LEVELS):
                    self._slot(index + 1, old.start).merge(old)
