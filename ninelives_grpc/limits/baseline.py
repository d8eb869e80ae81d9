"""How long calls take when nothing waits: one number a method, so that a change of mix is none.

Ten slow calls among a hundred quick ones are no overload, if they are known to be slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.law import LawPermit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.limits.law import Law

MAX_METHODS = 256
"""Methods that are told apart; all others are one."""
_LEARNING = 0.05
_LEAST = 1e-9


class Lane(LawPermit):
    """The calls of one method: what they take, and what they took in this window.

    It is also the permit of each of them.

    Attributes:
        base: Seconds that one takes when nothing waits; 0 when that is not known yet.
        calls: Calls answered in this window.
        total: Seconds that those took.
    """

    __slots__ = ("base", "calls", "total")

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.base = 0.0
        self.calls = 0
        self.total = 0.0


class Baseline:
    """The lanes of all methods."""

    def __init__(self, law: Law) -> None:
        self._law = law
        self._lanes: dict[str, Lane] = {}
        self.find = self._lanes.get

    def __iter__(self) -> Iterator[Lane]:
        """Go through the lanes that had calls in this window."""
        return (lane for lane in self._lanes.values() if lane.calls)

    def lane(self, method: str) -> Lane:
        """Return the lane of a method, made when it is new."""
        if method not in self._lanes and len(self._lanes) >= MAX_METHODS:
            method = ""
        return self._lanes.setdefault(method, Lane(self._law))

    def of_window(self) -> float:
        """Return the base of this window's mix, and take a first guess at that of new methods.

        New methods are thought to be held up as much as those that are known.
        """
        known = [lane for lane in self if lane.base]
        expected = sum(lane.calls * lane.base for lane in known)
        held_up = sum(lane.total for lane in known) / expected if expected else 1.0
        for lane in self:
            lane.base = lane.base or max(lane.total / lane.calls / max(held_up, 1.0), _LEAST)
        lanes = list(self)
        return sum(lane.calls * lane.base for lane in lanes) / sum(lane.calls for lane in lanes)

    def learn(self, variation: float) -> None:
        """Move towards what calls took in this window, in which nothing waited.

        Args:
            variation: Squared coefficient of variation: the larger it is, the less a call tells.
        """
        for lane in self:
            moved = min(max(lane.total / lane.calls / lane.base - 1.0, -0.5), 0.5)
            weight = min(1.0, lane.calls / (100.0 * max(1.0, variation)))
            lane.base = max(lane.base * (1.0 + _LEARNING * moved * weight), _LEAST)

    def scale(self, factor: float) -> None:
        """Correct all methods alike."""
        for lane in self._lanes.values():
            lane.base *= factor

    def clear(self) -> None:
        """Begin a window."""
        for lane in self._lanes.values():
            lane.calls = 0
            lane.total = 0.0
