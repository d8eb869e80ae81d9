"""Whether calls become quicker when fewer run at once; if not, it is of no use to cut further.

Calls that take long by themselves take as long with a smaller limit, and a law that goes by their
latency would cut to nothing. `ConcurrencyLimit` stops at the same mark: a limit below 0.6 of what
it was, while latency is above 0.8 of what it was.
"""

from __future__ import annotations

_CUT = 0.6
_FOLLOWED = 0.8
_CHANGED = 0.25
"""Share by which latency must have changed until cuts are tried again."""


class Response:
    """The last cuts of a size, and what they did to latency."""

    def __init__(self) -> None:
        """Start with no cut."""
        self._size: float | None = None
        self._latency = 0.0
        self._useless = False

    @property
    def useless(self) -> bool:
        """Whether cuts do not make calls quicker, as far as known."""
        return self._useless

    def cut(self, size: float, latency: float, wanted: float) -> float | None:
        """Return the size to go to: the wanted one, what it was before cuts of no use, or None.

        Args:
            size: The size that holds.
            latency: Seconds that calls take with it, too many.
            wanted: The smaller size that a law would set.
        """
        if self._size is None or size > self._size:
            self._start(size, latency)
        elif self._useless:
            if abs(latency / self._latency - 1.0) <= _CHANGED:
                return None
            self._start(size, latency)
        elif size <= _CUT * self._size:
            if latency > _FOLLOWED * self._latency:
                self._useless, self._latency = True, latency
                return self._size
            self._start(size, latency)
        return wanted

    def relax(self) -> None:
        """Take note that calls are quick enough."""
        self._size, self._useless = None, False

    def _start(self, size: float, latency: float) -> None:
        self._size, self._latency, self._useless = size, latency, False
