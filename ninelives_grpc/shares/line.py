"""Choose which calls a share is made of: those that matter most."""

from __future__ import annotations

import random

from ninelives_grpc.priority import RANKS
from ninelives_grpc.windows.ranks import RecentRanks


class Line:
    """The latest calls in the order in which they matter; whoever asks holds a lock.

    A call passes when it stands within the share, counted from those that matter most. Levels are
    given by chance where a call brings none, and chance decides among equals, so that the share of
    the calls that pass is the one asked for, whatever ranks they have.
    """

    __slots__ = ("_ranks",)

    def __init__(self) -> None:
        self._ranks = RecentRanks(RANKS)

    def passes(self, rank: int, share: float) -> bool:
        """Tell whether a call belongs to the share that goes through.

        Args:
            rank: Number of its rank, 0 for the first served.
            share: 0..1.
        """
        ranks = self._ranks
        ranks.add(rank)
        return ranks.share_before(rank) + random.random() * ranks.share_at(rank) < share
