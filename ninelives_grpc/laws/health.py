"""How well a backend does, as one number: by the share of good answers and by how long they take.

Shared by the laws that go by health. A score is 1 when all is as it should be, and 0 from where
nothing can be expected any more.
"""

from __future__ import annotations

from ninelives_grpc.laws.law import between


def share_of(value: float, worst: float, best: float) -> float:
    """Return where a value stands between the worst (0) and the best (1)."""
    if best <= worst:
        return float(value >= best)
    return between((value - worst) / (best - worst), 0.0, 1.0)


def score_of(success: float, latency: float | None, longest: float | None) -> float:
    """Return the share of good answers, less if they take longer than they should."""
    if latency is None or longest is None or latency <= longest:
        return success
    return success * longest / latency
