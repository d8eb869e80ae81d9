"""How long calls take when nothing waits: one number a method, so that a change of mix is none.

Ten slow calls among a hundred quick ones are no overload, if they are known to be slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.limits.law import LawPermit

if TYPE_CHECKING:
    from ninelives_grpc.limits.law import Law

MAX_METHODS = 256
"""Methods that are told apart; all others are one."""
_LEARNING = 0.05
_LEAST = 1e-9


class Lane(LawPermit):
    """The calls of one method: what they take, and what they took in this window.

    It is also the permit of each of them, so that nothing has to be looked up when they end.

    Attributes:
        base: Seconds that one takes when nothing waits; 0 when that is not known yet.
        calls: Calls answered in this window.
        total: Seconds that those took.
        squares: Sum of the squares of that.
    """

    __slots__ = ("base", "calls", "squares", "total")

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.base = 0.0
        self.calls = 0
        self.total = self.squares = 0.0


class Tally(NamedTuple):
    """A window, all methods together.

    Attributes:
        calls: Calls that were answered.
        mean: Seconds that one took.
        variation: Squared coefficient of variation of that.
        base: Seconds that one of this mix takes when nothing waits.
    """

    calls: int
    mean: float
    variation: float
    base: float


class Baseline:
    """The lanes of all methods.

    Attributes:
        lanes: By name of the method.
    """

    def __init__(self, law: Law) -> None:
        self.lanes: dict[str, Lane] = {}
        self._law = law
        self._active: list[Lane] = []

    def new_lane(self, method: str) -> Lane:
        """Return the lane of a method that has none, if there may be another; or the common one."""
        if len(self.lanes) >= MAX_METHODS:
            method = ""
        return self.lanes.setdefault(method, Lane(self._law))

    def calls(self) -> int:
        """Return how many calls were answered in this window so far, to be summed up by `tally`."""
        self._active = active = [lane for lane in self.lanes.values() if lane.calls]
        return active[0].calls if len(active) == 1 else sum(lane.calls for lane in active)

    def tally(self) -> Tally:
        """Sum up this window, and take a first guess at the base of new methods.

        New methods are thought to be held up as much as those that are known.
        """
        calls, total, squares, expected, known = 0, 0.0, 0.0, 0.0, 0.0
        new = []
        for lane in self._active:
            calls += lane.calls
            total += lane.total
            squares += lane.squares
            if lane.base:
                known += lane.total
                expected += lane.calls * lane.base
            else:
                new.append(lane)
        held_up = max(known / expected, 1.0) if expected else 1.0
        for lane in new:
            lane.base = max(lane.total / lane.calls / held_up, _LEAST)
            expected += lane.calls * lane.base
        mean = max(total / calls, _LEAST)
        variation = max(0.0, squares / calls / (mean * mean) - 1.0)
        return Tally(calls, mean, variation, expected / calls)

    def learn(self, variation: float) -> None:
        """Move towards what calls took in this window, in which nothing waited.

        Args:
            variation: Squared coefficient of variation: the larger it is, the less a call tells.
        """
        enough = 100.0 * max(1.0, variation)
        for lane in self._active:
            moved = min(max(lane.total / lane.calls / lane.base - 1.0, -0.5), 0.5)
            weight = min(1.0, lane.calls / enough)
            lane.base = max(lane.base * (1.0 + _LEARNING * moved * weight), _LEAST)

    def scale(self, factor: float) -> None:
        """Correct all methods alike."""
        for lane in self.lanes.values():
            lane.base *= factor

    def clear(self) -> None:
        """Begin a window."""
        for lane in self.lanes.values():
            lane.calls = 0
            lane.total = lane.squares = 0.0
