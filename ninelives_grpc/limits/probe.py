"""A measurement of how long calls take when nothing waits: some calls, all of which are awaited.

A window only sees the calls that end in it, and those are the short ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.baseline import Lane

if TYPE_CHECKING:
    from ninelives_grpc.limits.law import Law

_FIRST = 10
_FEW = 3
_PLAINLY = 2.0
"""How many times as long as expected the first ten have to take for no more to be needed."""


class Member(Lane):
    """Leave for a call by which a probe measures; when that is over, it counts nowhere else.

    Attributes:
        probe: Which.
        first: Whether it is one of its first ten.
    """

    __slots__ = ("first", "probe")

    def __init__(self, law: Law, lane: Lane, probe: Probe, *, first: bool) -> None:
        super().__init__(law)
        self.base = lane.base
        self.probe = probe
        self.first = first


class Cohort:
    """Calls that are admitted one after the other.

    Attributes:
        size: How many are wanted.
        calls: Those that were answered.
        total: Seconds that they took.
        expected: Seconds that they should have taken, by what is known of their methods.
    """

    __slots__ = ("_admitted", "_pending", "calls", "expected", "size", "total")

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = self._admitted = self._pending = 0
        self.total = self.expected = 0.0

    @property
    def full(self) -> bool:
        """Whether as many were admitted as are wanted."""
        return self._admitted >= self.size

    @property
    def returned(self) -> bool:
        """Whether all of them have returned."""
        return self.full and not self._pending

    def admit(self) -> None:
        """Await another call."""
        self._admitted += 1
        self._pending += 1

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


class Probe:
    """The next `size` calls that are admitted; or the first ten, if they tell enough.

    Attributes:
        size: How many calls it wants.
        since: When it began.
        until: When it is given up.
    """

    __slots__ = ("_all", "_first", "since", "size", "until")

    def __init__(self, size: int, since: float, until: float) -> None:
        self.size = size
        self.since = since
        self.until = until
        self._all, self._first = Cohort(size), Cohort(_FIRST)

    def admit(self, law: Law, lane: Lane) -> Member | None:
        """Take a call in, or not, if there are enough."""
        if self._all.full:
            return None
        first = not self._first.full
        for cohort in (self._all, self._first) if first else (self._all,):
            cohort.admit()
        return Member(law, lane, self, first=first)

    def answered(self, member: Member, latency: float) -> None:
        """Count the answer to a call."""
        self._all.answered(member, latency)
        if member.first:
            self._first.answered(member, latency)

    def lost(self, member: Member) -> None:
        """Go on without a call that was not answered."""
        self._all.lost()
        if member.first:
            self._first.lost()

    @property
    def done(self) -> bool:
        """Whether all have returned, or the first ten have shown that the base is plainly wrong."""
        return self._all.returned or self._is_plain

    @property
    def found(self) -> float | None:
        """How many times as long as expected calls took, or None when too few were answered."""
        cohort = self._all
        if self._is_plain and not cohort.returned:
            # Others that have returned by now are the short ones.
            cohort = self._first
        elif cohort.calls <= _FIRST and cohort.calls < self.size and not self._is_slow:
            return None
        return cohort.total / cohort.expected if cohort.expected else None

    @property
    def _is_slow(self) -> bool:
        """Whether the few that were answered took plainly too long, which the others do no less.

        Of a backend that is very slow, a probe that lets in one call at a time sees no more.
        """
        cohort = self._all
        return cohort.calls >= _FEW and cohort.total > _PLAINLY * cohort.expected

    @property
    def _is_plain(self) -> bool:
        first = self._first
        return first.returned and first.total > _PLAINLY * first.expected > 0.0
