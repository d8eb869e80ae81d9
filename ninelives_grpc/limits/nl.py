"""The default law: as many calls as keep the backend busy, by what they take when nothing waits.

By Little's law a backend that answers X calls a second, each of which takes `base` seconds when
nothing waits, has N0 = X x base of them in work; a few more keep it busy while it gets new ones,
and all beyond that wait. The limit is far above as long as nothing waits.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ninelives_grpc.limits.baseline import Baseline, Lane
from ninelives_grpc.limits.probe import Member, Probe
from ninelives_grpc.limits.response import Response
from ninelives_grpc.limits.windowed import Windowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
    from ninelives_grpc.policies.gate import Permit

_PEAKS_FOR = 10.0
_SOON = 1.0
_LONGEST_PROBE = 3.0
_LONGEST_WINDOW = 5.0
"""Seconds that a window takes at most because calls take long."""
_LARGEST_COHORT = 400
_SLOW_WINDOWS = 4
"""Windows after which a base by which calls wait for too long is doubted."""
_PAUSE = 4.0
"""Least time between two probes, as a multiple of the time that the first took."""
_MOVED = 1.15
"""How much more calls take than expected for the limit to have been too low."""


class Seen(NamedTuple):
    """What a window has shown.

    Attributes:
        mean: Seconds that a call took.
        rate: Calls answered a second.
        base: Seconds that a call of this mix takes when nothing waits.
        excess: How many times as long they took.
        usual: How many times as long they take with `target` of them in flight.
        target: Calls in flight that keep the backend busy.
        error: Standard error of `excess`.
        now: When it was over.
    """

    mean: float
    rate: float
    base: float
    excess: float
    usual: float
    target: float
    error: float
    now: float


class Nl(Windowed):
    """Keeps enough calls in flight to lose no capacity, and no more.

    *Relaxed*, the limit is `burst` times what was needed lately. *Under control*, while calls are
    refused or take longer than a short queue explains, it is (1 + `tolerance`) x N0 +
    `headroom` x sqrt(N0), within what deadlines allow. *Probes* measure the base anew: with fewer
    calls than N0 an overestimated base shrinks each time, so that it does not drift.

    Attributes:
        excess: How many times as long as the base calls took in the last window.
    """

    def __init__(self, settings: Callable[[], ConcurrencyLimit], limit: float) -> None:
        super().__init__(settings, limit)
        self.excess = 0.0
        self._baseline = Baseline(self)
        self._lanes = self._baseline.lanes
        self._last = self._probed = float("-inf")
        self._stall = float("inf")
        self._variation: float | None = None
        self._peaks: deque[tuple[float, int]] = deque()
        self._controlling = False
        self._rate = 0.0
        self._response = Response()
        self._slow_windows = 0
        self._highest = 0.0
        self._due = float("-inf")
        self._probe: Probe | None = None

    def on_admit(self, method: str, in_flight: int, remaining: float | None, now: float) -> Permit:
        """Take note of a call that begins; a probe may want to measure by it."""
        if in_flight > self.peak:  # noqa: PLR1730 - a call less on the path of every call
            self.peak = in_flight
        if remaining is not None:
            self._remaining = remaining
        try:
            lane = self._lanes[method]
        except KeyError:
            lane = self._baseline.new_lane(method)
        if self._probe is None:
            return lane
        self._give_up(in_flight, now)
        return lane if self._probe is None else self._probe.admit(self, lane) or lane

    def on_settle(self, permit: Permit, latency: float, in_flight: int, now: float) -> None:
        """Count the call, and judge the window if it is over."""
        if self._probe is not None:
            if isinstance(permit, Member) and permit.probe is self._probe:
                self._probe.answered(permit, latency)
            self._conclude(in_flight, now)
            return
        # All permits of this law are lanes.
        lane: Lane = permit  # type: ignore[assignment]
        lane.calls += 1
        lane.total += latency
        lane.squares += latency * latency
        if now >= self._end:
            self._over(in_flight, now)
        self._last = now

    def on_drop(self, permit: Permit, in_flight: int, now: float) -> None:
        """Take the permit back."""
        self.on_ignore(permit, in_flight, now)

    def on_ignore(self, permit: Permit, in_flight: int, now: float) -> None:
        """Take the permit back."""
        if self._probe is not None:
            if isinstance(permit, Member) and permit.probe is self._probe:
                self._probe.lost(permit)
            self._conclude(in_flight, now)

    def on_refuse(self, now: float) -> None:
        """Count the refusal."""
        self.refused += 1
        if self._probe is not None:
            self._give_up(self.peak, now)

    def on_change(self) -> None:
        """Keep to the bounds."""
        limit, reason, probing = self.limit, self.reason, self._probe is not None
        self._set(limit, reason)
        if probing:
            self._set_for_probe(limit)

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Find out whether calls wait, and act on it."""
        tally = self._baseline.tally()
        rate, base, own = tally.calls / (now - self._start), tally.base, tally.variation
        variation = own if self._variation is None else self._variation
        needed = rate * base
        target = _target(settings, needed)
        usual = target / max(needed, 0.1)
        error = math.sqrt(max(own, variation) / tally.calls)
        seen = Seen(tally.mean, rate, base, tally.mean / base, usual, target, error, now)
        self.latency = tally.mean
        self._rate += (0.5 if self._rate else 1.0) * (rate - self._rate)
        self.excess = seen.excess
        usual = 1.2 * (1.0 if self._is_late(settings, seen) else seen.usual)
        if self.refused or seen.excess > usual + 3.0 * seen.error:
            self._variation = variation
            self._control(settings, seen)
        else:
            self._variation = variation = variation + 0.1 * (own - variation)
            self._relax(settings, seen, variation)
        self.base = base
        self._stall = 10.0 * base + 2.0 * settings.window

    def _is_late(self, settings: ConcurrencyLimit, seen: Seen) -> bool:
        """Tell whether calls take more of the time that deadlines allow than they should."""
        return bool(self.allowed) and seen.mean > settings.deadline_share * self.allowed

    def _control(self, settings: ConcurrencyLimit, seen: Seen) -> None:
        """Aim at what keeps the backend busy."""
        if not self._controlling:
            self._controlling = True
            self._response.clear()
            self._slow_windows = 0
            self._due = max(seen.now + _SOON, self._due)
            self._highest = 0.0
        self._highest = max(self._highest, self._rate)
        then = self._response.note(self._start, seen.now, self.peak, seen.mean, seen.excess)
        limit = self.limit
        # What does not wait at all may grow faster, as long as it is not late by that.
        waits = seen.excess > 1.2 + seen.error or 0.0 < self.allowed < 1.3 * seen.mean
        least = 1.1 if waits else 1.3
        target = self._within_deadlines(settings, seen.base, least)
        if target > limit:
            limit = min(2.0 * limit, target)
        else:
            if self.allowed:
                # Calls that come now would be late: there is no time for steps.
                limit = min(limit, max(self._rate * settings.deadline_share * self.allowed, target))
            limit += 0.5 * (max(0.5 * limit, target) - limit)
        self._set(limit, "overload")
        # Of calls that a higher limit has let in, nothing is to be learned.
        drained = then <= 1.3 * self.limit
        slow = drained and seen.excess > 1.3 * seen.usual + 2.0 * seen.error
        self._slow_windows = self._slow_windows + 1 if slow else 0
        doubtful = 1.2 if self._is_late(settings, seen) else 1.5
        insensitive = seen.excess > doubtful + 2.0 * seen.error and self._response.insensitive(
            seen.error
        )
        if self._slow_windows >= _SLOW_WINDOWS or insensitive:
            self._begin_probe(settings, seen, math.sqrt(max(seen.excess, 1.0)))
        elif seen.now >= self._due:
            self._begin_probe(settings, seen)

    def _relax(self, settings: ConcurrencyLimit, seen: Seen, variation: float) -> None:
        """Leave room for bursts, and learn what calls take."""
        self._controlling = False
        while self._peaks and self._peaks[0][0] < seen.now - _PEAKS_FOR:
            self._peaks.popleft()
        if seen.excess <= 1.4 + seen.error:
            # Only what may yet become the highest is kept, so that the first is.
            while self._peaks and self._peaks[-1][1] <= self.peak:
                self._peaks.pop()
            self._peaks.append((seen.now, self.peak))
            self._baseline.learn(variation)
        highest = self._peaks[0][1] if self._peaks else 0
        bound = max(settings.burst * highest + 4.0, 1.2 * _target(settings, seen.rate * seen.base))
        limit = self.limit
        if bound > limit:
            self._set(min(bound, 1.25 * limit + 1.0), "relaxed")
        else:
            self._set(max(bound, 0.98 * limit), "relaxed")

    def _within_deadlines(
        self, settings: ConcurrencyLimit, base: float, least: float = 1.1
    ) -> float:
        """Return the target, under which calls take no more than a share of their deadline."""
        needed = self._rate * base
        target = _target(settings, needed)
        if self.allowed:
            # One more, as of a few calls a part of one is no step at all.
            target = min(target, self._rate * settings.deadline_share * self.allowed + 1.0)
        # Never under what an empty queue needs.
        return max(target, least * needed + 1.0)

    def _begin_probe(self, settings: ConcurrencyLimit, seen: Seen, times: float = 1.0) -> None:
        rate = min(self._rate, 1.1 * seen.rate)
        cohort = 100.0 * (self._variation or 0.0)
        largest = max(_LARGEST_COHORT, settings.probe_calls)
        cohort = min(max(cohort, settings.probe_calls), largest)
        size = round(max(10.0, min(cohort, self._rate)))
        self._probe = Probe(size, seen.now, seen.now + _LONGEST_PROBE + 20.0 * seen.base)
        longest = min(times * seen.base, seen.mean)
        if self.allowed and seen.mean > self.allowed:
            # Nothing is lost by it: as it is, calls are of no use to anybody.
            longest = min(longest, settings.deadline_share * self.allowed)
        self._set_for_probe(settings.probe_share * rate * longest)

    def _set_for_probe(self, limit: float) -> None:
        """Set the limit of a probe, which may be half of the least otherwise."""
        settings = self.settings()
        self.limit = min(max(1.0, 0.5 * settings.min_limit, limit), settings.max_limit)
        self.reason = "probe"

    def _give_up(self, in_flight: int, now: float) -> None:
        """End a probe that takes too long."""
        if self._probe is not None and now >= self._probe.until:
            self._end_probe(self._probe, in_flight, now)

    def _conclude(self, in_flight: int, now: float) -> None:
        """End a probe whose calls have all returned, or that takes too long."""
        probe = self._probe
        if probe is not None and (probe.done or now >= probe.until):
            self._end_probe(probe, in_flight, now)

    def _end_probe(self, probe: Probe, in_flight: int, now: float) -> None:
        settings = self.settings()
        # What takes long to measure is measured less often: most of the time is for calls.
        took = min(now, probe.until) - probe.since
        wait, reason = max(settings.probe_interval, _PAUSE * took), "abandoned"
        found = probe.found
        if found is not None:
            reason = "probed"
            first = self._probed == float("-inf")
            factor = found if first or not 0.7 <= found <= 1.4 else (1.0 + found) / 2.0  # noqa: PLR2004
            self._baseline.scale(max(factor, 1e-3))
            self.base *= factor
            self._probed = now
            if abs(found - 1.0) > 0.15:  # noqa: PLR2004
                wait = _SOON
            if found > _MOVED:
                # The limit was too low for the backend to show what it can do.
                self._rate = self._highest
            self._highest = self._rate
        self._probe = None
        self._set(self._within_deadlines(settings, self.base), reason)
        self._response.clear()
        self._slow_windows = 0
        self._due = now + wait
        self._last = now
        self._begin(settings, in_flight, now)

    def _over(self, in_flight: int, now: float) -> None:
        if now - self._last > self._stall:
            # The backend stood still, or nobody called: what came before says nothing of now.
            self._begin(self.settings(), in_flight, now)
            return
        self._calls = self._baseline.calls()
        super()._over(in_flight, now)

    def _begin(self, settings: ConcurrencyLimit, in_flight: int, now: float) -> None:
        super()._begin(settings, in_flight, now)
        # In less time than a call takes, calls that began together look like many a second.
        self._end = max(self._end, now + min(self.base, self.latency, _LONGEST_WINDOW))
        self._baseline.clear()


def _target(settings: ConcurrencyLimit, needed: float) -> float:
    """Return how many calls keep a backend busy that has so many in work when nothing waits."""
    return (1.0 + settings.tolerance) * needed + settings.headroom * math.sqrt(needed) + 0.5
