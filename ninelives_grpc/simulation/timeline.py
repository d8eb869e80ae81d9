"""Virtual time: what is to happen, in order."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.clock import Clock


class Timeline:
    """Events by time, and a stream of arrivals beside them.

    What happens at the same time happens in the order in which it was put down. Arrivals are not
    kept with the rest: there is always one next, which is most of what happens.

    Attributes:
        time: Seconds since the begin.
        events: A heap of (time, number, function, its argument).
        numbers: Where numbers come from; whoever is in a hurry pushes events without `at`.
        arrival: When the next call comes.
    """

    __slots__ = ("arrival", "events", "numbers", "time")

    def __init__(self) -> None:
        """Begin at 0, with nothing to come."""
        self.time = 0.0
        self.arrival = math.inf
        self.events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self.numbers = count()

    def now(self) -> float:
        """Return the seconds since the begin."""
        return self.time

    @property
    def clock(self) -> Clock:
        """A clock for stacks: they are only told the time, and never wait by it."""
        return cast("Clock", self)

    def at(self, time: float, act: Callable[[Any], None], what: Any = None) -> None:
        """Have `act(what)` called at a time."""
        heappush(self.events, (time, next(self.numbers), act, what))

    def postpone(self, acts: tuple[Callable[[Any], None], ...], seconds: float) -> None:
        """Have some of what is to come come later: all that these functions do."""
        self.events[:] = [
            (time + seconds if act in acts else time, number, act, what)
            for time, number, act, what in self.events
        ]
        heapify(self.events)

    def run(self, arrive: Callable[[], None]) -> None:
        """Let everything happen, until there is nothing left.

        Args:
            arrive: Lets a call come, and sets the next `arrival`.
        """
        events = self.events
        while events:
            if self.arrival < events[0][0]:
                self.time = self.arrival
                arrive()
            else:
                self.time, _, act, what = heappop(events)
                act(what)
