"""How latency answers to a cut: what waits in a queue takes less when fewer calls are in flight.

Calls that end now began some time ago, so that their latency is set against the calls that were in
flight then.
"""

from __future__ import annotations

from collections import deque

_WINDOWS = 50
"""Windows that are remembered."""
_DEEP = 0.8
"""What a cut must leave at most, to tell anything by."""


class Response:
    """The last windows under control."""

    __slots__ = ("_peaks", "_seen")

    def __init__(self) -> None:
        self._peaks: deque[tuple[float, int]] = deque(maxlen=_WINDOWS)
        self._seen: deque[tuple[int, float]] = deque(maxlen=_WINDOWS)

    def clear(self) -> None:
        """Forget what came before."""
        self._peaks.clear()
        self._seen.clear()

    def note(self, start: float, end: float, peak: int, latency: float, excess: float) -> int:
        """Take note of a window, and return how many were in flight when its calls began.

        Args:
            start: When it began.
            end: When it was over.
            peak: Most calls in flight in it.
            latency: Seconds that its calls took.
            excess: How many times as long as when nothing waits that is.
        """
        self._peaks.append((start, peak))
        began = 0.5 * (start + end) - latency
        then = peak
        for begun, peak_then in reversed(self._peaks):
            then = peak_then
            if begun <= began:
                break
        self._seen.append((then, excess))
        return then

    def insensitive(self, error: float) -> bool:
        """Tell whether latency did not follow a cut: then it does not come from waiting.

        Args:
            error: Standard error of the latency, as a share of it: a cut that such an error could
                hide tells nothing.
        """
        then, excess = self._seen[-1]
        for before, excess_before in reversed(self._seen):
            followed = then / before if before else 1.0
            if 1.0 - followed > 3.0 * error and followed < _DEEP:
                return excess > 0.5 * (1.0 + followed) * excess_before
        return False
