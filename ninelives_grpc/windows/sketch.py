"""Durations in exponential buckets: any percentile, with 1.1 % error, mergeable by addition.

The buckets are those of OTLP's exponential histogram and Prometheus' native histogram at scale 5:
bucket `i` holds `2**(i/32) < x <= 2**((i+1)/32)`.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCALE = 5
_PER_OCTAVE = 1 << SCALE
_LOWEST = 1e-6
_HIGHEST = 1e4
_SLACK = 8
"""Buckets made besides the one that is needed: neighbours tend to follow."""
_MOST = {"H": 2**16 - 1, "I": 2**32 - 1, "Q": 2**64 - 1}
"""What a counter of each width holds."""
_HEAD = struct.Struct("<4sBidI")
_MAGIC = b"NLSK"


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket that holds a duration, kept within 1 µs to 10,000 s."""
    clamped = min(max(seconds, _LOWEST), _HIGHEST)
    return math.ceil(math.log2(clamped) * _PER_OCTAVE) - 1


def middle_of(bucket: int) -> float:
    """Return the duration that stands for all in a bucket."""
    return float(2.0 ** ((bucket + 0.5) / _PER_OCTAVE))


def upper_bound(bucket: int) -> float:
    """Return the longest duration that a bucket holds."""
    return float(2.0 ** ((bucket + 1) / _PER_OCTAVE))


BOTTOM, TOP = bucket_of(_LOWEST), bucket_of(_HIGHEST)
"""The first and the last bucket."""


class Sketch:
    """How many durations fell into which bucket; one thread at a time.

    Two of them are merged by adding bucket to bucket, so that a sketch of all samples and the sum
    of the sketches of its parts, from threads, policies or processes, are the same. After Masson,
    Rim and Lee, "DDSketch" (2019), with the buckets of OpenTelemetry.

    Attributes:
        sum: Seconds of all durations together.
    """

    __slots__ = ("_counts", "_first", "sum")

    def __init__(self, durations: Iterable[float] = ()) -> None:
        """Take in some durations, in seconds."""
        # Only from the lowest bucket in use to the highest, and 2 bytes each unless there are more:
        # 0.7 KB for 3 decades.
        self._counts: array[int] = array("H")
        self._first = 0
        self.sum = 0.0
        self.extend(durations)

    @property
    def count(self) -> int:
        """How many durations it holds."""
        return sum(self._counts)

    def add(self, seconds: float, count: int = 1) -> None:
        """Take in a duration, or several that are the same."""
        self._put(bucket_of(seconds), count)
        self.sum += seconds * count

    def extend(self, durations: Iterable[float]) -> None:
        """Take in many durations."""
        durations = tuple(durations)
        self.put(Counter(map(bucket_of, durations)), math.fsum(durations))

    def put(self, buckets: Counter[int], seconds: float) -> None:
        """Take in durations that have been sorted into buckets, and are so many seconds in all."""
        for bucket, count in buckets.items():
            self._put(bucket, count)
        self.sum += seconds

    def merge(self, other: Sketch) -> None:
        """Take in all that another one holds."""
        for bucket, count in other.buckets():
            self._put(bucket, count)
        self.sum += other.sum

    def quantile(self, ratio: float) -> float | None:
        """Return the duration that the given ratio of durations does not exceed, or None if empty.

        It is within 1.1 % of the sample of that rank.
        """
        total = self.count
        if not total:
            return None
        rank = max(1, math.ceil(ratio * total))
        for bucket, count in self.buckets():
            rank -= count
            if rank <= 0:
                return middle_of(bucket)
        return None

    def buckets(self) -> Iterator[tuple[int, int]]:
        """Go through the buckets that hold something, lowest first, with their counts."""
        for number, count in enumerate(self._counts, self._first):
            if count:
                yield number, count

    def to_bytes(self) -> bytes:
        """Return a form for other processes to merge; see `from_bytes`."""
        used = dict(self.buckets())
        first = min(used, default=0)
        counts = array("Q", (used.get(n, 0) for n in range(first, max(used, default=-1) + 1)))
        if sys.byteorder == "big":
            counts.byteswap()
        return _HEAD.pack(_MAGIC, SCALE, first, self.sum, len(counts)) + counts.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        """Return the sketch that another process wrote with `to_bytes`.

        Raises:
            ValueError: It is none, or of another scale, or not whole.
        """
        if len(data) < _HEAD.size or not data.startswith(_MAGIC):
            raise ValueError("these bytes are no sketch")
        _, scale, first, seconds, buckets = _HEAD.unpack_from(data)
        if scale != SCALE:
            msg = f"the sketch has scale {scale}, and only those of scale {SCALE} can be merged"
            raise ValueError(msg)
        if len(data) != _HEAD.size + 8 * buckets:
            raise ValueError("the sketch is not whole")
        if buckets and not BOTTOM <= first <= first + buckets - 1 <= TOP:
            raise ValueError("the sketch has buckets that there are none of")
        counts = array("Q", data[_HEAD.size :])
        if sys.byteorder == "big":
            counts.byteswap()
        sketch = cls()
        sketch.put(Counter(dict(enumerate(counts, first))), seconds)
        return sketch

    def __eq__(self, other: object) -> bool:
        """Tell whether both hold the same in each bucket."""
        return isinstance(other, Sketch) and list(self.buckets()) == list(other.buckets())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show how many durations it holds."""
        return f"<Sketch of {self.count}>"

    def _put(self, bucket: int, count: int) -> None:
        counts = self._counts
        place = bucket - self._first
        if not 0 <= place < len(counts):
            self._reach(bucket)
            counts = self._counts
            place = bucket - self._first
        total = counts[place] + count
        if total > _MOST[counts.typecode]:
            self._counts = counts = array("I" if total <= _MOST["I"] else "Q", counts)
        counts[place] = total

    def _reach(self, bucket: int) -> None:
        """Make room for a bucket, and for a few beyond it."""
        counts = self._counts
        empty = array(counts.typecode, [0])
        if not counts:
            self._first = max(bucket - _SLACK, BOTTOM)
        low = max(bucket - _SLACK, BOTTOM)
        if low < self._first:
            self._counts = counts = empty * (self._first - low) + counts
            self._first = low
        missing = min(bucket + _SLACK, TOP) + 1 - self._first - len(counts)
        if missing > 0:
            counts.extend(empty * missing)
