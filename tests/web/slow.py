"""More events than a client that does not read can be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninelives_control import ControlPlane

_COPIES = " ".join(f"c{number}: details {{ name value }}" for number in range(10))
LARGE_EVENTS = f"subscription {{ events {{ dropped events {{ {_COPIES} }} }} }}"
"""A subscription whose events take much room."""


def flood(plane: ControlPlane) -> int:
    """Let things happen until the only subscriber loses some, and return how many there were."""
    (subscription,) = plane.dispatcher._stream._subscriptions
    parameter = plane.registry.parameter("shop/retry/max_attempts")
    number = 0
    while not subscription.dropped:
        number += 1
        parameter.set(number % 2 + 4, reason="x" * 1000)
    return number
