"""Which of the calls that contend for a place come first, and which have no chance."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ninelives_grpc.policies.gate import PERMIT, Permit
from ninelives_grpc.policies.scope import Scope, key_function
from ninelives_grpc.priority import LEVELS, RANKS, number_of
from ninelives_grpc.windows.ranks import RecentRanks
from ninelives_grpc.windows.usage import Usage

if TYPE_CHECKING:
    from ninelives_grpc.call import Call


class Seat(Permit):
    """A place of somebody whose use is counted."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class Ranking:
    """The ranks of the latest calls, and who has used how much."""

    def __init__(self, fair_by: Scope, half_life: float) -> None:
        """Tell callers apart by a scope."""
        self._ranks = RecentRanks(RANKS)
        self._usage = Usage(half_life)
        self._key_of = key_function(fair_by)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Make a new lock: a thread that a forked child does not have may hold the old one."""
        self._lock = threading.Lock()

    def rank(self, call: Call) -> tuple[int, Permit]:
        """Return the number of a call's rank, 0 for the first served, and its permit."""
        if self._key_of is None:
            rank, permit = number_of(call.rank), PERMIT
        else:
            key = self._key_of(call)
            with self._lock:
                relative = self._usage.relative(key)
            # Who has used as much as the others on average is in the middle.
            level = min(LEVELS - 1, int(relative * LEVELS / 2))
            rank, permit = number_of(call.ranked(level)), Seat(key)
        with self._lock:
            self._ranks.add(rank)
        return rank, permit

    def hopeless(self, rank: int, pressure: float) -> bool:
        """Tell whether a call is not to be let in; at a pressure of 1 that is the second half.

        Args:
            rank: Of the call.
            pressure: 0..1, below 0 there is none.
        """
        if pressure <= 0.0:
            return False
        with self._lock:
            return self._ranks.share_before(rank) > 1.0 - pressure / 2.0

    def used(self, permit: Permit, seconds: float, now: float) -> None:
        """Count for how long a place was taken."""
        if type(permit) is Seat:
            with self._lock:
                self._usage.add(permit.key, seconds, now)

    def forget_half_in(self, half_life: float, now: float) -> None:
        """Let uses count for a longer or shorter time from now on."""
        with self._lock:
            self._usage.forget_half_in(half_life, now)
