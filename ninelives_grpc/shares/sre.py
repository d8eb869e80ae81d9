"""A fraction by what a backend took of late: client-side throttling of the Google SRE book.

Of `requests` in the window, of which the backend took `accepts`, the share
(requests - K x accepts) / (requests + 1) is not sent. (Site Reliability Engineering, chapter 21.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.throttle import Throttle

_SLOTS = 60


class Slot:
    """What happened in a sixtieth of the window."""

    __slots__ = ("accepts", "requests", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.requests = 0
        self.accepts = 0


class Sre:
    """Counts what the application asked for, and what of that the backend took."""

    __slots__ = ("_accepts", "_requests", "_settings", "_slots")
    remembers = True
    """Whether answers count also while all is sent."""

    def __init__(self, settings: Callable[[], Throttle], fraction: float, now: float) -> None:
        """Begin with as few requests as make about this fraction, none of which was taken."""
        self._settings = settings
        self._slots: deque[Slot] = deque()
        self._requests = 0
        self._accepts = 0
        lost = round(1.0 / fraction) - 1
        if lost:
            self._slot(now).requests = self._requests = lost

    def fraction(self, now: float) -> float:
        """Return the fraction to send, 0..1."""
        policy = self._settings()
        self._expire(now - policy.sre_window)
        excess = self._requests - policy.sre_multiplier * self._accepts
        return max(policy.min_fraction, 1.0 - max(0.0, excess) / (self._requests + 1))

    def on_accept(self, now: float) -> None:
        """Learn that the backend took a call."""
        slot = self._slot(now)
        slot.requests += 1
        slot.accepts += 1
        self._requests += 1
        self._accepts += 1

    def on_overload(self, now: float) -> None:
        """Learn that the backend said that it has too much to do."""
        self._slot(now).requests += 1
        self._requests += 1

    def on_refuse(self, now: float) -> None:
        """Take note of a call that was not sent: the application asked for it."""
        self.on_overload(now)

    def _slot(self, now: float) -> Slot:
        window = self._settings().sre_window
        slots = self._slots
        if not slots or now - slots[-1].start >= window / _SLOTS:
            self._expire(now - window)
            slots.append(Slot(now))
        return slots[-1]

    def _expire(self, oldest: float) -> None:
        slots = self._slots
        while slots and slots[0].start < oldest:
            slot = slots.popleft()
            self._requests -= slot.requests
            self._accepts -= slot.accepts
