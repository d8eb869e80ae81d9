"""A fraction that falls by a factor with each overload refusal, and rises by one with each answer.

Additive steps of the logarithm: the fraction that a backend can bear may be 0.5 or 0.02, and is
found as fast. With steps of 0.7 down and 0.3 up it settles where three of ten calls are refused,
and time raises it besides, so that it does not stay down when the backend is back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.throttle import Throttle


class LogAimd:
    """Keeps the logarithm of the fraction to send, 0 for all."""

    __slots__ = ("_at", "_log", "_settings")
    remembers = False
    """Whether answers count also while all is sent."""

    def __init__(self, settings: Callable[[], Throttle], fraction: float, now: float) -> None:
        """Begin with a fraction."""
        self._settings = settings
        self._log = math.log(fraction)
        self._at = now

    def fraction(self, now: float) -> float:
        """Return the fraction to send, 0..1."""
        self._rise(now)
        return math.exp(self._log)

    def on_accept(self, now: float) -> None:
        """Learn that the backend took a call."""
        policy = self._settings()
        self._rise(now)
        self._log = min(0.0, self._log + policy.step * policy.bearable)

    def on_overload(self, now: float) -> None:
        """Learn that the backend said that it has too much to do."""
        policy = self._settings()
        self._rise(now)
        self._log -= policy.step * (1.0 - policy.bearable)
        self._log = max(self._log, math.log(policy.min_fraction))

    def on_refuse(self, now: float) -> None:
        """Take note of a call that was not sent."""

    def _rise(self, now: float) -> None:
        if now > self._at:
            policy = self._settings()
            lowest = max(self._log, math.log(policy.min_fraction))
            rise = (now - self._at) * math.log(2.0) / policy.doubling
            self._log = min(0.0, lowest + rise)
            self._at = now
