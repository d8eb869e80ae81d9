"""Which values a loop may set: those within its own bounds and within those of the parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ninelives_grpc.laws.law import between

if TYPE_CHECKING:
    from ninelives_grpc.laws.law import Law
    from ninelives_grpc.parameters import Spec
    from ninelives_grpc.policies.policy import Policy


def reach(settings: Law, spec: Spec, policy: Policy) -> tuple[float, float]:
    """Return the bounds of a loop, within those of its parameter.

    Where the policy has another parameter that bounds this one, as `max_open_duration` bounds
    `open_duration`, its value of now counts too.
    """
    least = -math.inf if spec.low is None else spec.low
    most = math.inf if spec.high is None else spec.high
    greatest = getattr(policy, f"max_{spec.name}", None)
    most = most if greatest is None else min(most, greatest)
    low = least if settings.low is None else between(settings.low, least, most)
    high = most if settings.high is None else between(settings.high, low, most)
    if spec.type is int and math.isfinite(low) and math.isfinite(high):
        low = math.ceil(low)
        high = max(low, math.floor(high))
    return low, high


def out_of_reach(settings: Law, spec: Spec) -> str:
    """Say when a loop may set nothing that its parameter can be."""
    low, high = settings.low, settings.high
    if (low is not None and spec.high is not None and low > spec.high) or (
        high is not None and spec.low is not None and high < spec.low
    ):
        return f"must be {spec.bounds()}, and the loop sets it to nothing of that"
    return ""
