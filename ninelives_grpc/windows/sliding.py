"""What happened in the last minute, five minutes and quarter of an hour, in little memory.

Fine slots of 5 s cover the last minute, slots of 15 s the time back to five minutes, and slots of a
minute the time back to fifteen. A slot that grows old is merged into the next coarser one; that
happens when somebody adds or asks, and never by a timer.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeVar

from ninelives_grpc.windows.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Callable


class Level(NamedTuple):
    """Slots of one width, and how far back they reach, in seconds."""

    width: float
    horizon: float


LEVELS = (Level(5.0, 60.0), Level(15.0, 300.0), Level(60.0, 900.0))
SLOT = LEVELS[0].width
"""Seconds of a fine slot."""
HORIZONS = tuple(level.horizon for level in LEVELS)
"""The windows that can be asked for, in seconds."""


def check_horizon(horizon: float) -> None:
    """Refuse windows that are not kept.

    Raises:
        ValueError: It is not one of `HORIZONS`; names them.
    """
    if horizon not in HORIZONS:
        kept = ", ".join(f"{each:g}" for each in HORIZONS)
        msg = f"a window of {horizon:g} s is not kept; ask for one of {kept}"
        raise ValueError(msg)


def beginning(horizon: float, now: float) -> float:
    """Return since when a window counts: the start of the oldest slot in it, up to a slot early."""
    width = next(level.width for level in LEVELS if level.horizon == horizon)
    return (now - horizon) // width * width


class Slot(Protocol):
    """What happened in one stretch of time."""

    start: float

    def merge(self, other: Self) -> None:
        """Take in what another one holds."""


S = TypeVar("S", bound=Any)


class SlidingWindow(Generic[S]):
    """Slots of the last fifteen minutes; one thread at a time."""

    __slots__ = ("_levels", "_make")

    def __init__(self, make: Callable[[float], S]) -> None:
        """Make slots with `make(start)`."""
        self._make = make
        self._levels: tuple[deque[S], ...] = tuple(deque() for _ in LEVELS)

    def slot(self, at: float) -> S:
        """Return the slot of a time, to add to it; times may come late, but not before the last."""
        return self._slot(0, at)

    def total(self, horizon: float, now: float) -> S:
        """Return everything of the last `horizon` seconds, one of `HORIZONS`, to the slot."""
        self._roll(now)
        total = self._make(beginning(horizon, now))
        for level, slots in zip(LEVELS, self._levels, strict=True):
            if level.horizon > horizon:
                break
            for slot in slots:
                total.merge(slot)
        return total

    def _slot(self, index: int, at: float) -> S:
        slots = self._levels[index]
        start = at - at % LEVELS[index].width
        if not slots or slots[-1].start < start:
            slots.append(self._make(start))
            self._roll(at)
        return slots[-1]

    def _roll(self, now: float) -> None:
        for index, level in enumerate(LEVELS):
            slots = self._levels[index]
            while slots and slots[0].start + level.width <= now - level.horizon:
                old = slots.popleft()
                if index + 1 < len(LEVELS):
                    self._slot(index + 1, old.start).merge(old)


RESULTS = ("success", "failure", "ignored", "refused")
_ATTEMPTS, _ANSWERED = len(RESULTS), len(RESULTS) + 1
_NUMBERS = {result: number for number, result in enumerate(RESULTS)}


class CallSlot:
    """Calls that ended in one stretch of time.

    Attributes:
        start: When it begins.
        durations: Durations of those that were not refused.
    """

    __slots__ = ("_counts", "durations", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self._counts = array("Q", (0,) * (_ANSWERED + 1))
        self.durations = Sketch()

    def add(self, result: str, calls: int, attempts: int, answered: int) -> None:
        """Take in calls that ended alike, after so many attempts of which some were answered."""
        counts = self._counts
        counts[_NUMBERS[result]] += calls
        counts[_ATTEMPTS] += attempts
        counts[_ANSWERED] += answered

    def of(self, result: str) -> int:
        """Return how many calls ended so."""
        return self._counts[_NUMBERS[result]]

    @property
    def calls(self) -> int:
        """How many calls ended at all."""
        return sum(self._counts[:_ATTEMPTS])

    @property
    def attempts(self) -> int:
        """How many attempts they took."""
        return self._counts[_ATTEMPTS]

    @property
    def answered(self) -> int:
        """How many of the attempts were answered well."""
        return self._counts[_ANSWERED]

    def merge(self, other: CallSlot) -> None:
        """Take in what another one holds."""
        for number, count in enumerate(other._counts):
            self._counts[number] += count
        self.durations.merge(other.durations)


class EventSlot:
    """Events of one stretch of time, by name and reason."""

    __slots__ = ("counts", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.counts: Counter[tuple[str, str]] = Counter()

    def merge(self, other: EventSlot) -> None:
        """Take in what another one holds."""
        self.counts.update(other.counts)
