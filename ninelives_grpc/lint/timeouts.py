"""The timeouts on the way of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.policies.timeout import Timeout

if TYPE_CHECKING:
    from ninelives_grpc.lint.finding import Way
    from ninelives_grpc.policies.policy import Live


def shortest_timeout(way: Way) -> Live[Any] | None:
    """Return the timeout that runs out first, or None without any."""
    limits = [live for live in way if isinstance(live.policy, Timeout)]
    return min(limits, key=seconds_of, default=None)


def seconds_of(live: Live[Any]) -> float:
    """Return the length of a timeout."""
    seconds: float = live.policy.seconds
    return seconds
