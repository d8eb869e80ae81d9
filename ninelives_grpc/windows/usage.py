"""Who has used how much of late, compared with the others."""

from __future__ import annotations

from collections import OrderedDict

_RESCALE_AT = 2.0**200


class Usage:
    """Seconds of use by key, of which half is forgotten in a half-life; the caller holds a lock.

    What is kept grows with the time at which it was added instead of shrinking with age, so that an
    addition touches one key, and the comparison of two comes out the same.
    """

    __slots__ = ("_amounts", "_half_life", "_since", "_size", "_total")

    def __init__(self, half_life: float, size: int = 1000) -> None:
        """Keep `size` keys; the longest unused goes first."""
        self._half_life = half_life
        self._size = size
        self._since = 0.0
        self._amounts: OrderedDict[str, float] = OrderedDict()
        self._total = 0.0

    def add(self, key: str, seconds: float, now: float) -> None:
        """Note that a key has used so much."""
        if not self._amounts:
            self._since = now
        if self._weight(now) > _RESCALE_AT:
            self._rescale(now)
        amount = seconds * self._weight(now)
        self._amounts[key] = self._amounts.get(key, 0.0) + amount
        self._amounts.move_to_end(key)
        self._total += amount
        if len(self._amounts) > self._size:
            self._total -= self._amounts.popitem(last=False)[1]

    def relative(self, key: str) -> float:
        """Return how much a key has used as a multiple of the mean; 0 for one that is not known."""
        if self._total <= 0.0:
            return 0.0
        return self._amounts.get(key, 0.0) * len(self._amounts) / self._total

    def forget_half_in(self, half_life: float, now: float) -> None:
        """Let uses count for a longer or shorter time from now on."""
        self._rescale(now)
        self._half_life = half_life

    def _weight(self, now: float) -> float:
        weight: float = 2.0 ** min((now - self._since) / self._half_life, 1000.0)
        return weight

    def _rescale(self, now: float) -> None:
        weight = self._weight(now)
        for key in self._amounts:
            self._amounts[key] /= weight
        self._total = sum(self._amounts.values())
        self._since = now
