"""TCP Vegas: keep a few calls in the backend's queue, and neither none nor many.

As in Netflix's concurrency-limits, which has it from Brakmo and Peterson, "TCP Vegas: end to end
congestion avoidance on a global Internet" (1995); but by the mean of a window and not by each call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ninelives_grpc.limits.windowed import Windowed

if TYPE_CHECKING:
    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit


class Vegas(Windowed):
    """Estimates the queue as limit x (1 - base / latency), the base being the least latency seen.

    With s = log10(limit), at least 1: up to a queue of s it raises the limit by `vegas_beta` x s,
    below `vegas_alpha` x s by s, and above `vegas_beta` x s it cuts it by s. After `vegas_probe` x
    limit calls the base is forgotten.
    """

    _seen = 0

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Move the limit by what it finds in the queue."""
        mean = max(self.latency, 1e-9)
        self._seen += self._calls
        if self._seen >= settings.vegas_probe * self.limit:
            self._seen = 0
            self.base = mean
            self.reason = "probe"
            return
        if not self.base or mean < self.base:
            self.base = mean
            return
        step = float(max(1, int(math.log10(self.limit))))
        queue = math.ceil(self.limit * (1.0 - self.base / mean))
        if self.dropped:
            self._set(self.limit - step, "dropped")
        elif queue > settings.vegas_beta * step:
            self._set(self.limit - step, "queue")
        elif not self._is_used():
            return
        elif queue <= step:
            self._set(self.limit + settings.vegas_beta * step, "no_queue")
        elif queue < settings.vegas_alpha * step:
            self._set(self.limit + step, "short_queue")
