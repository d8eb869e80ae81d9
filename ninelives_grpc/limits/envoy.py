"""The gradient controller of Envoy's adaptive concurrency filter.

Now and then it lets only a few calls run, to measure how long one takes when nothing waits; in
between it compares the median of each window with that.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from ninelives_grpc.limits.windowed import Windowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
    from ninelives_grpc.policies.gate import Permit

_MOST_SAMPLES = 4096
_ROWS_AT_MINIMUM = 5


class Envoy(Windowed):
    """Sets limit := g x limit + sqrt(g x limit), with g = base x (1 + `envoy_buffer`) / median.

    g is within 0.5 and 2. The base is the median of `envoy_calls` calls, measured with
    `envoy_concurrency` calls at once: at first, every `envoy_interval` seconds, and when the limit
    was the least in five windows in a row.
    """

    def __init__(self, settings: Callable[[], ConcurrencyLimit], limit: float) -> None:
        super().__init__(settings, limit)
        self._samples: list[float] = []
        self._measuring_since = self._measured = float("-inf")
        self._before = limit
        self._at_minimum = 0

    def on_settle(self, permit: Permit, latency: float, in_flight: int, now: float) -> None:
        """Keep the latency, and judge what there is when it is enough."""
        if self._measuring_since > float("-inf"):
            # Those that began before waited behind others.
            if now - latency >= self._measuring_since:
                self._samples.append(latency)
                if len(self._samples) >= self.settings().envoy_calls:
                    self._measure(in_flight, now)
            return
        if len(self._samples) < _MOST_SAMPLES:
            self._samples.append(latency)
        super().on_settle(permit, latency, in_flight, now)

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Move the limit by the gradient, or begin to measure."""
        if now >= self._measured + settings.envoy_interval or self._at_minimum >= _ROWS_AT_MINIMUM:
            self._before = self.limit
            self._measuring_since = now
            self._at_minimum = 0
            self._set(min(self.limit, settings.envoy_concurrency), "measuring")
            return
        median = max(statistics.median(self._samples), 1e-9)
        gradient = self.base * (1.0 + settings.envoy_buffer) / median
        wanted = self.limit * max(0.5, min(2.0, gradient))
        wanted += math.sqrt(wanted)
        if wanted < self.limit or self._is_used():
            self._set(wanted, "latency" if wanted < self.limit else "used")
        self._at_minimum = self._at_minimum + 1 if self.limit <= settings.min_limit else 0

    def on_change(self) -> None:
        """Keep to the bounds, and measure on with as few calls as before."""
        limit, reason = self.limit, self.reason
        super().on_change()
        if self._measuring_since > float("-inf"):
            self._set(min(limit, self.settings().envoy_concurrency), reason)

    def _measure(self, in_flight: int, now: float) -> None:
        self.base = statistics.median(self._samples)
        self._measuring_since = float("-inf")
        self._measured = now
        self._set(self._before, "measured")
        self._begin(self.settings(), in_flight, now)

    def _begin(self, settings: ConcurrencyLimit, in_flight: int, now: float) -> None:
        super()._begin(settings, in_flight, now)
        self._samples = []
