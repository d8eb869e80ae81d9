"""Additive increase, multiplicative decrease: one more while all is well, a tenth less if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.limits.windowed import Windowed

if TYPE_CHECKING:
    from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit


class Aimd(Windowed):
    """Raises the limit by `aimd_increase` a window, if it is used, or cuts it to `aimd_backoff`.

    It cuts when the backend has refused a call, or calls took longer than `aimd_latency` on
    average; without one, than `deadline_share` of what their deadlines allow.
    """

    def judge(self, settings: ConcurrencyLimit, now: float) -> None:
        """Cut or raise the limit."""
        longest = settings.aimd_latency
        if longest is None:
            longest = settings.deadline_share * self.allowed or float("inf")
        if self.dropped or self.latency > longest:
            self._set(self.limit * settings.aimd_backoff, "dropped" if self.dropped else "latency")
        elif self._is_used():
            self._set(self.limit + settings.aimd_increase, "used")
