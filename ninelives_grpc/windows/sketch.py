"""Durations in exponential buckets: any percentile, with 1.1 % error, mergeable by addition.

The buckets are those of OTLP's exponential histogram and Prometheus' native histogram at scale 5:
bucket `i` holds `2**(i/32) < x <= 2**((i+1)/32)`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PER_OCTAVE = 32
_LOWEST = 1e-6
_HIGHEST = 1e4


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket that holds a duration, kept within 1 µs to 10,000 s."""
    clamped = min(max(seconds, _LOWEST), _HIGHEST)
    return math.ceil(math.log2(clamped) * _PER_OCTAVE) - 1


def middle_of(bucket: int) -> float:
    """Return the duration that stands for all in a bucket."""
    return float(2.0 ** ((bucket + 0.5) / _PER_OCTAVE))


def quantile(buckets: Counter[int], ratio: float) -> float | None:
    """Return the duration that the given ratio of durations does not exceed, or None if empty."""
    total = buckets.total()
    if not total:
        return None
    rank = max(1, math.ceil(ratio * total))
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return middle_of(bucket)
    return None


def merged(sketches: Iterable[Counter[int]]) -> Counter[int]:
    """Add sketches up; percentiles themselves can not be averaged."""
    total: Counter[int] = Counter()
    for sketch in sketches:
        total.update(sketch)
    return total
