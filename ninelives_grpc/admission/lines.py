"""Who waits, in which order: strictly by class, in turns by tenant, and by age within a tenant."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING

from ninelives_grpc.policies.gate import Wait
from ninelives_grpc.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPARE = 64
"""Places that the order of their times may keep beyond those who wait."""


class Place(Wait):
    """A place in a line.

    Attributes:
        line: Where.
        before: How many waited there already.
        granted: Whether its turn has come.
        reason: Why it was thrown out, "" if it was not.
    """

    __slots__ = ("before", "granted", "line", "reason")

    def __init__(self, since: float, until: float, line: Line) -> None:
        super().__init__(since, until)
        self.line = line
        self.before = len(line)
        self.granted = False
        self.reason = ""


class Line:
    """Those of one tenant in one class who wait.

    Attributes:
        rank: Number of the class, 0 for the first served.
        key: The tenant.
        since: Since when there has been somebody.
        places: Those who wait, oldest first.
    """

    __slots__ = ("_over", "key", "places", "rank", "since")

    def __init__(self, rank: int, key: str, since: float) -> None:
        self.rank = rank
        self.key = key
        self.since = since
        self._over = False
        # A dict would go through those who have left at every look at its first.
        self.places: OrderedDict[Place, None] = OrderedDict()

    def __len__(self) -> int:
        """Count those who wait."""
        return len(self.places)

    def over(self, now: float, after: float, delay: float) -> bool:
        """Tell whether more come than can be served, and not only for a moment.

        That is when somebody has been waiting for `after` seconds on end, the oldest for `delay`
        seconds, and more wait now than when that one lined up: after a burst they are fewer. It
        stays so until nobody waits.
        """
        if not self._over and self.places and now - self.since >= after:
            oldest = next(iter(self.places))
            self._over = len(self) > oldest.before and now - oldest.since >= delay
        return self._over


class _Class:
    """The lines of one class, the next one to serve first, and once more by their length."""

    __slots__ = ("_by_length", "lines", "size")

    def __init__(self) -> None:
        self.lines: OrderedDict[str, Line] = OrderedDict()
        self.size = 0
        self._by_length: list[dict[Line, None]] = []

    @property
    def longest(self) -> Line:
        """The longest line, or one of them; there must be one."""
        return next(iter(self._by_length[-1]))

    def changed(self, line: Line, by: int) -> None:
        """Take note that one more waits in a line, or one less."""
        self.size += by
        lines, length = self._by_length, len(line)
        if length > by:
            del lines[length - by][line]
        if length:
            while length >= len(lines):
                lines.append({})
            lines[length][line] = None
        while lines and not lines[-1]:
            lines.pop()


class Lines:
    """All who wait; the caller holds a lock.

    Nothing takes longer than the logarithm of their number.

    Attributes:
        size: How many they are.
    """

    def __init__(self) -> None:
        """Start with nobody."""
        self.size = 0
        self._classes = tuple(_Class() for _ in Priority)
        self._by_time: list[tuple[float, int, Place]] = []
        self._numbers = count()

    def __iter__(self) -> Iterator[Line]:
        """Go through the lines in which somebody waits."""
        for each in self._classes:
            yield from each.lines.values()

    def line(self, rank: int, key: str, now: float) -> Line:
        """Return the line of a tenant in a class, which may be a new one."""
        return self._classes[rank].lines.get(key) or Line(rank, key, now)

    def ahead_of(self, line: Line) -> int:
        """Return how many are served before whoever lines up now and is served in order."""
        ahead = sum(each.size for each in self._classes[: line.rank])
        own, waits = self._classes[line.rank], len(line)
        others = len(own.lines) - (1 if waits else 0)
        return ahead + waits + min(own.size - waits, (waits + 1) * others)

    def add(self, place: Place) -> None:
        """Have somebody line up."""
        line = place.line
        own = self._classes[line.rank]
        if not line.places:
            own.lines[line.key] = line
        line.places[place] = None
        own.changed(line, 1)
        self.size += 1
        heapq.heappush(self._by_time, (place.until, next(self._numbers), place))

    def remove(self, place: Place) -> None:
        """Have somebody leave, wherever in the line that is."""
        line = place.line
        own = self._classes[line.rank]
        del line.places[place]
        if not line.places:
            del own.lines[line.key]
        own.changed(line, -1)
        self.size -= 1
        if len(self._by_time) > 2 * self.size + _SPARE:
            self._by_time = [entry for entry in self._by_time if _waits(entry[2])]
            heapq.heapify(self._by_time)

    def next(self, now: float, over_after: float, over_delay: float) -> Place:
        """Take out whose turn it is; somebody must wait.

        Args:
            now: The time.
            over_after: Seconds after which a line that grows is served from its end.
            over_delay: Seconds that its oldest must have waited by then.
        """
        own = next(each for each in self._classes if each.lines)
        line = next(iter(own.lines.values()))
        newest_first = line.over(now, over_after, over_delay)
        place = next(reversed(line.places) if newest_first else iter(line.places))
        own.lines.move_to_end(line.key)
        self.remove(place)
        return place

    def late(self, now: float) -> Iterator[Place]:
        """Take out those whose latest start has passed, the latest first."""
        while self._by_time and self._by_time[0][0] <= now:
            place = heapq.heappop(self._by_time)[2]
            if _waits(place):
                self.remove(place)
                yield place

    def next_until(self) -> float | None:
        """Return when the next of those who wait will be late; None if nobody waits."""
        while self._by_time and not _waits(self._by_time[0][2]):
            heapq.heappop(self._by_time)
        return self._by_time[0][0] if self._by_time else None

    def give_way(self, line: Line) -> Place | None:
        """Take out somebody for one who lines up, and comes before them; None if nobody does.

        That is the newest of a class that matters less, or of a tenant who has more waiting.
        """
        for each in reversed(self._classes[line.rank :]):
            if not each.size:
                continue
            longest = each.longest
            if each is self._classes[line.rank] and len(longest) <= len(line) + 1:
                return None
            place = next(reversed(longest.places))
            self.remove(place)
            return place
        return None


def _waits(place: Place) -> bool:
    return place in place.line.places
