"""Gradient2 of Netflix's concurrency-limits: compare the latency of now with that of a long time.

The long average follows a lasting overload in the end, and the limit with it; that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.windowed import Windowed

if TYPE_CHECKING:
    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit

_WARM_UP = 10
_STALE = 2.0
_DECAY = 0.95


class Gradient2(Windowed):
    """Sets limit := limit x gradient + `gradient2_queue`, smoothed by `gradient2_smoothing`.

    The gradient is `gradient2_tolerance` x long / short latency, within 0.5 and 1. The long one is
    an average over `gradient2_long` windows; it falls faster while it is more than twice the other.
    """

    _windows = 0

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Move the limit by the gradient, if it is used."""
        mean = max(self.latency, 1e-9)
        self._windows += 1
        weight = 2.0 / (settings.gradient2_long + 1.0)
        if self._windows <= _WARM_UP:
            weight = 1.0 / self._windows
        self.base += weight * (mean - self.base)
        if self.base > _STALE * mean:
            self.base *= _DECAY
        if not self._is_used():
            return
        gradient = max(0.5, min(1.0, settings.gradient2_tolerance * self.base / mean))
        wanted = self.limit * gradient + settings.gradient2_queue
        limit = self.limit + settings.gradient2_smoothing * (wanted - self.limit)
        self._set(limit, "latency" if gradient < 1.0 else "used")
