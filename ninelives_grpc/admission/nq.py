"""The law NQ: who may wait, who is too late, and who is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.admission.lines import Line, Lines, Place
from ninelives_grpc.admission.service_time import ServiceTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.admission_queue import AdmissionQueue


_MOST = 4.0
"""Times the mean of the deadlines that a deadline counts at the most."""


class Nq:
    """Places, and the lines of those who wait for one; the caller holds a lock.

    What was decided about somebody who waits is written into their place. Whoever calls it notifies
    the places that it returns, once the lock is released.

    Attributes:
        limit: How many places there are.
        in_flight: How many are taken.
        acquired: How many were given so far.
        lines: Those who wait.
        pressed: Until when more is asked of a call that finds a free place, as others were refused.
        service: What calls take.
    """

    __slots__ = (
        "_given",
        "_settings",
        "acquired",
        "in_flight",
        "limit",
        "lines",
        "pressed",
        "service",
    )

    def __init__(self, settings: Callable[[], AdmissionQueue], limit: int) -> None:
        """Start with every place free; `settings` returns the values that hold now."""
        self._settings = settings
        self._given = ServiceTime()
        self.limit = limit
        self.in_flight = 0
        self.acquired = 0
        self.pressed = float("-inf")
        self.lines = Lines()
        self.service = ServiceTime()

    def start_afresh(self) -> None:
        """Free every place, and forget who waits."""
        self.in_flight = 0
        self.lines = Lines()

    def over(self, now: float) -> bool:
        """Tell whether a line is served from its end."""
        when = self._over_when()
        return any(line.over(now, *when) for line in self.lines)

    def hopeless(self, rank: int, key: str, now: float) -> bool:
        """Tell whether a call has no chance, whatever its deadline: its line is over and full."""
        line = self.lines.line(rank, key, now)
        return line.over(now, *self._over_when()) and self._wait_in(line) > self._moment()

    def line_up(
        self, rank: int, key: str, now: float, deadline: float | None, told: list[Place]
    ) -> tuple[Place | None, str]:
        """Find a place in a line, or say why there is none; both are missing if one is free.

        Args:
            rank: Number of the call's class.
            key: Its tenant.
            now: The time.
            deadline: When it must be over.
            told: Where to add whoever is to be notified.
        """
        told += self.advance(now)
        if self.in_flight < self.limit and not self.lines.size:
            if self._comes_late(now, deadline):
                # This is no reason to go on so: it would keep itself going.
                return None, "deadline"
            self.in_flight += 1
            self.acquired += 1
            return None, ""
        place = self._place(rank, key, now, deadline)
        if place is None:
            return None, self._refused("deadline", now)
        if self.lines.size >= self._settings().max_queue:
            loser = self.lines.give_way(place.line)
            if loser is None:
                return None, self._refused("queue_full", now)
            loser.ready, loser.reason = True, "displaced"
            told.append(loser)
        self.lines.add(place)
        return place, ""

    def free(self, seconds: float | None, now: float) -> list[Place]:
        """Take a place back, and learn from the time that it was taken, if that is told."""
        self.in_flight -= 1
        if seconds is not None:
            self.service.add(seconds, self._settings().weight)
        return self.advance(now)

    def leave(self, place: Place, now: float) -> list[Place]:
        """Have somebody wait no more, or pass on what they were granted."""
        if place.granted:
            self.in_flight -= 1
        elif not place.ready:
            self.lines.remove(place)
            place.ready = True
        return self.advance(now)

    def advance(self, now: float) -> list[Place]:
        """Throw out who is late, and give free places to those who are next."""
        lines = self.lines
        told: list[Place] = []
        if not lines.size:
            return told
        for place in lines.late(now):
            place.ready, place.reason = True, self._refused("late", now)
            told.append(place)
        while lines.size and self.in_flight < self.limit:
            place = lines.next(now, *self._over_when())
            place.ready = place.granted = True
            self.in_flight += 1
            self.acquired += 1
            told.append(place)
        return told

    def _comes_late(self, now: float, deadline: float | None) -> bool:
        """Tell whether a call is refused though a place is free.

        A server that does not keep up with reading gets calls when it is too late for them. Yet
        what calls take is only learned from those that run: some always may, or a backend that has
        been slow for longer than a deadline would be taken to be so for ever.
        """
        if deadline is None or now >= self.pressed or 2 * self.in_flight < self.limit:
            return False
        return deadline - now < self.service.mean

    def _refused(self, reason: str, now: float) -> str:
        """Note that somebody is refused, and return why."""
        self.pressed = now + self._over_when()[0]
        return reason

    def _over_when(self) -> tuple[float, float]:
        """Return for how long a line that is over has not been empty, and its oldest has waited."""
        settings = self._settings()
        after = settings.over_after
        if after is None:
            after = self._given.mean or settings.default_wait
        return after, after * settings.over_delay

    def _place(self, rank: int, key: str, now: float, deadline: float | None) -> Place | None:
        """Return a place for a call that can be in time."""
        settings, mean = self._settings(), self.service.mean
        need = mean + settings.deviations * self.service.deviation
        if deadline is None:
            given = settings.default_wait + need
        else:
            given = max(0.0, deadline - now)
            # Not of those that bring none: a call that is refused before its request is read seems
            # to be one of them.
            # A few that bring hours are not to count for all others.
            counts = min(given, _MOST * (self._given.mean or given))
            self._given.add(counts, settings.weight)
            need += settings.margin * given
        latest = now + given - need
        line = self.lines.line(rank, key, now)
        if line.over(now, *self._over_when()):
            latest = min(latest, now + self._moment())
        begins = now + self._wait_in(line)
        return Place(now, latest, line) if begins <= latest and now < latest else None

    def _wait_in(self, line: Line) -> float:
        """Return for how long whoever lines up waits, if those before take what others took."""
        return self.lines.ahead_of(line) * self.service.mean / self.limit

    def _moment(self) -> float:
        """Return for how long somebody may wait in a line that is over."""
        settings = self._settings()
        return max(settings.over_wait, settings.over_share * self.service.mean)
