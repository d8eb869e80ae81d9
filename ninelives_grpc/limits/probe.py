"""A measurement of how long calls take when nothing waits: some calls, all of which are awaited.

A window only sees the calls that end in it, and those are the short ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.baseline import Lane

if TYPE_CHECKING:
    from ninelives_grpc.limits.law import Law


class Member(Lane):
    """Leave for a call by which a probe measures; when that is over, it counts nowhere else.

    Attributes:
        probe: Which.
    """

    __slots__ = ("probe",)

    def __init__(self, law: Law, lane: Lane, probe: Probe) -> None:
        super().__init__(law)
        self.base = lane.base
        self.probe = probe


class Probe:
    """The next `size` calls that are admitted.

    Attributes:
        size: How many calls it wants.
        until: When it is given up.
        calls: Calls that were answered.
        total: Seconds that they took.
        expected: Seconds that they should have taken, by what is known of their methods.
    """

    __slots__ = ("_admitted", "_pending", "calls", "expected", "size", "total", "until")

    def __init__(self, size: int, until: float) -> None:
        self.size = size
        self.until = until
        self.calls = self._admitted = self._pending = 0
        self.total = self.expected = 0.0

    def admit(self, law: Law, lane: Lane) -> Member | None:
        """Take a call in, or not, if there are enough."""
        if self._admitted >= self.size:
            return None
        self._admitted += 1
        self._pending += 1
        return Member(law, lane, self)

    def answered(self, member: Member, latency: float) -> None:
        """Count the answer to a call."""
        self._pending -= 1
        if member.base:
            self.calls += 1
            self.total += latency
            self.expected += member.base

    def lost(self) -> None:
        """Go on without a call that was not answered."""
        self._pending -= 1

    @property
    def done(self) -> bool:
        """Whether all have returned."""
        return self._admitted >= self.size and not self._pending

    @property
    def tells(self) -> bool:
        """Whether enough were answered: all that it wanted, or more than ten."""
        return self.calls > 10 or self.calls >= self.size  # noqa: PLR2004
