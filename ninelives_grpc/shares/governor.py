"""How much to serve under pressure: cut at once, give back slowly, and hold in between.

Above `degrade_above` the share is halved, again above `critical_above`, and a little more when the
pressure does not yield; below `recover_below` it rises by the second. Between the two nothing
changes, which is what keeps it from swinging.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.policies.load_shed import LoadShed

_LONGEST_STEP = 1.0
"""Seconds that count between two readings: of a time that nobody has seen nothing is known."""


class Condition(StrEnum):
    """What a governor is about."""

    NORMAL = "normal"
    """All is served."""
    DEGRADED = "degraded"
    """A share is served, and it has been cut."""
    RECOVERING = "recovering"
    """A share is served, and it rises."""


class Governor:
    """Sets the share to serve by the pressure; told both pressure and time.

    Attributes:
        condition: What it is about.
        share: Share of the calls to serve, 0..1.
    """

    __slots__ = ("_at", "_cut_at", "_settings", "condition", "share")

    def __init__(self, settings: Callable[[], LoadShed]) -> None:
        """Begin by serving all."""
        self._settings = settings
        self._at: float | None = None
        self._cut_at = float("-inf")
        self.condition = Condition.NORMAL
        self.share = 1.0

    def feel(self, pressure: float, now: float) -> None:
        """Take a reading into account.

        Args:
            pressure: 0 for none, 1 for the limit; it may be more.
            now: When it was taken.
        """
        policy = self._settings()
        elapsed = 0.0 if self._at is None else min(now - self._at, _LONGEST_STEP)
        self._at = now
        self.share = max(self.share, policy.min_share)
        if pressure > policy.degrade_above:
            self._cut(pressure > policy.critical_above, now)
        elif pressure < policy.recover_below and self.share < 1.0:
            self.condition = Condition.RECOVERING
            self.share = min(1.0, self.share + elapsed * policy.rise)
        if self.share >= 1.0:
            self.condition = Condition.NORMAL

    def _cut(self, critical: bool, now: float) -> None:
        policy, since = self._settings(), now - self._cut_at
        if since < policy.cut_interval:
            return
        if critical or self.condition is not Condition.DEGRADED:
            factor = policy.cut
        elif since >= policy.patience:
            factor = policy.further_cut
        else:
            return
        self.share = max(policy.min_share, self.share * factor)
        self.condition = Condition.DEGRADED
        self._cut_at = now
