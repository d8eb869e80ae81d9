"""The calls since somebody last looked, for who looks more often than windows have slots.

It costs nothing on the path of a call: what is folded into the windows goes to readers as well.
"""

from __future__ import annotations

from typing import NamedTuple

from ninelives_grpc.observer.traffic import Traffic, traffic_of
from ninelives_grpc.windows.sliding import CallSlot


class Reading(NamedTuple):
    """The calls that a reader has gathered.

    Attributes:
        traffic: The calls.
        mean: Seconds that they took on average, refusals apart, or None.
    """

    traffic: Traffic
    mean: float | None


class CallReader:
    """Gathers calls from one look to the next; a recorder makes it, adds to it and guards it.

    Attributes:
        since: When it last began anew.
        slot: What has come since it was last read.
    """

    __slots__ = ("_read", "since", "slot")

    def __init__(self, since: float) -> None:
        """Begin with none."""
        self.since = since
        self.slot = CallSlot(since)
        self._read = CallSlot(since)

    def reading(self, now: float) -> Reading:
        """Return what it has gathered since it began anew."""
        slot = self._read
        slot.merge(self.slot)
        self.slot = CallSlot(now)
        count = slot.durations.count
        mean = slot.durations.sum / count if count else None
        return Reading(traffic_of(slot, max(now - self.since, 1e-9)), mean)

    def restart(self, now: float) -> None:
        """Begin anew with what comes after the last reading, so that no call is left out."""
        self.since = now
        self._read = CallSlot(now)
