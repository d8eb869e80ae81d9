"""Whether calls become quicker when fewer run at once; if not, it is of no use to cut further.

Calls that take long by themselves take as long with a smaller limit, and a law that goes by their
latency would cut to nothing: it stops at a limit below 0.6 of what it was, while latency is above
0.8 of what it was. `ConcurrencyLimit` asks the same of each call's begin, in `limits.response`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import L, RunningLaw

if TYPE_CHECKING:
    from ninelives_grpc.parameters import Value

_CUT = 0.6
_FOLLOWED = 0.8
_CHANGED = 0.25
"""Share by which latency must have changed until cuts are tried again."""
_AGAIN = 100
"""Looks after which they are tried again in any case."""


class Response:
    """The last cuts of a size, and what they did to latency."""

    def __init__(self) -> None:
        """Start with no cut."""
        self._size: float | None = None
        self._latency = 0.0
        self._judged_next = False
        self._useless_for: int | None = None

    @property
    def useless(self) -> bool:
        """Whether cuts do not make calls quicker, as far as known."""
        return self._useless_for is not None

    def cut(self, size: float, latency: float, wanted: float) -> float | None:
        """Return the size to go to: the wanted one, what it was before cuts of no use, or None.

        Args:
            size: The size that holds.
            latency: Seconds that half of the calls take with it: that tells with fewer calls than
                p99 whether they wait for each other.
            wanted: The smaller size that a law would set.
        """
        if self._useless_for is not None:
            self._useless_for += 1
            changed = abs(latency / self._latency - 1.0) > _CHANGED
            if not changed and self._useless_for < _AGAIN:
                return None
            self._start(size, latency)
        elif self._size is None or size > self._size or latency > self._latency * (1.0 + _CHANGED):
            # With fewer calls at once, only another backend is slower than before.
            self._start(size, latency)
        elif size <= _CUT * self._size:
            if not self._judged_next:
                # Some of the calls of this look began when more ran.
                self._judged_next = True
                return None
            if latency > _FOLLOWED * self._latency:
                self._latency, self._useless_for = latency, 0
                return self._size
            self._start(size, latency)
        return wanted

    def forget(self) -> None:
        """Forget what cuts did."""
        self._size = self._useless_for = None
        self._judged_next = False

    def _start(self, size: float, latency: float) -> None:
        self.forget()
        self._size, self._latency = size, latency


class RunningCuts(RunningLaw[L]):
    """A law at work that cuts no further where that is of no use."""

    def __init__(self, settings: L) -> None:
        super().__init__(settings)
        self._response = Response()

    def forget(self) -> None:
        """Forget what cuts did."""
        self._response.forget()

    def state(self) -> dict[str, Value]:
        """Return whether cuts were of no use."""
        return {"cuts_are_useless": self._response.useless}
