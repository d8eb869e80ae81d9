"""What all laws share: calls are counted in windows, and each is judged as a whole.

A law that acted on single calls would cut its limit once for each of a hundred that waited in the
same queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.law import LawPermit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
    from ninelives_grpc.policies.gate import Permit

_SMOOTHING = 0.1


class Windowed:
    """Counts calls in windows; see `Law` for the rest.

    Attributes:
        limit: Calls that may run at once now.
        base: Seconds that a call takes when nothing waits, as far as known, or 0.
        latency: Seconds that calls took in the last window on average, or 0.
        refused: Calls refused in this window.
        dropped: Calls that the backend refused in this window.
        reason: One word for what the limit goes by now.
        allowed: Seconds that calls may take, by their deadlines; 0 when they have none.
        peak: Most calls that ran at once in this window.
    """

    def __init__(self, settings: Callable[[], ConcurrencyLimit], limit: float) -> None:
        """Start from a limit.

        Args:
            settings: Returns the constants that hold now.
            limit: Calls that may run at once to begin with.
        """
        self.settings = settings
        self.limit = limit
        self.base = self.latency = self.allowed = 0.0
        self.reason = "start"
        self.peak = 0
        self._permit = LawPermit(self)
        self._remaining: float | None = None
        self._start = self._end = float("-inf")
        self._calls = self.refused = self.dropped = 0
        self._total = 0.0

    def on_admit(self, method: str, in_flight: int, remaining: float | None, now: float) -> Permit:
        """Take note of a call that begins."""
        if in_flight > self.peak:  # noqa: PLR1730 - a call less on the path of every call
            self.peak = in_flight
        if remaining is not None:
            self._remaining = remaining
        return self._permit

    def on_settle(self, permit: Permit, latency: float, in_flight: int, now: float) -> None:
        """Count the call, and judge the window if it is over."""
        self._calls += 1
        self._total += latency
        if now >= self._end:
            self._over(in_flight, now)

    def on_drop(self, permit: Permit, in_flight: int, now: float) -> None:
        """Count the refusal of the backend, which is no answer by which to judge its latency."""
        self.dropped += 1

    def on_ignore(self, permit: Permit, in_flight: int, now: float) -> None:
        """Do nothing."""

    def on_refuse(self, now: float) -> None:
        """Count the refusal."""
        self.refused += 1

    def on_change(self) -> None:
        """Keep to the bounds."""
        self._set(self.limit, self.reason)

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Set the limit by the window that is over."""
        raise NotImplementedError

    def _over(self, in_flight: int, now: float) -> None:
        settings = self.settings()
        if self._end == float("-inf"):
            # The time before the first answer belongs to no window.
            self._begin(settings, in_flight, now)
        elif self._calls >= settings.window_calls:
            if self._remaining is not None:
                weight = _SMOOTHING if self.allowed else 1.0
                self.allowed += weight * (self._remaining - self.allowed)
                self._remaining = None
            self.latency = self._total / self._calls
            self.judge(settings, now)
            self._begin(settings, in_flight, now)

    def _begin(self, settings: ConcurrencyLimit, in_flight: int, now: float) -> None:
        self._start = now
        self._end = now + settings.window
        self._calls = self.refused = self.dropped = 0
        self._total = 0.0
        self.peak = in_flight

    def _is_used(self) -> bool:
        """Tell whether so many calls ran that more could be of use."""
        return 2 * self.peak >= self.limit

    def _set(self, limit: float, reason: str) -> None:
        settings = self.settings()
        self.limit = min(max(limit, settings.min_limit), settings.max_limit)
        self.reason = reason
