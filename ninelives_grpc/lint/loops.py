"""Feedback loops that lead astray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.laws.breaker_threshold import BreakerThresholdLaw
from ninelives_grpc.lint.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.lint.as_if import AsIf


def loops_astray(loop: FeedbackLoop, as_if: AsIf) -> Iterator[Finding]:
    """Find loops that make errors of errors, and values that a loop will not keep."""
    settings, handle = as_if(loop).policy, loop.handle
    if not settings.enabled:
        return
    if isinstance(settings, BreakerThresholdLaw):
        yield Finding(
            rule="loop-feeds-back",
            path=loop.path,
            message="errors lower the threshold of the breaker, and an open breaker makes errors",
            fix=f"set {loop.path}/enabled to false, and let an OpenTimeLaw move open_duration",
        )
    value = getattr(as_if(handle.live).policy, handle.spec.name)
    low, high = loop.bounds(settings)
    if value is not None and not low <= value <= high:
        yield Finding(
            rule="loop-out-of-bounds",
            path=loop.path,
            message=f"{handle.path} is {value:g}, and the loop moves it from {low:g} to {high:g}",
            fix=f"set the value within that, or {loop.path}/low and {loop.path}/high around it",
        )
