"""How long to wait before the next attempt.

Jitter after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), and gRFC A6.
"""

from __future__ import annotations

import random
from enum import StrEnum


class Backoff(StrEnum):
    """How the wait grows from one attempt to the next."""

    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Jitter(StrEnum):
    """How the wait is spread, so that those who failed together do not return together."""

    FULL = "full"
    """Anything from 0 to the wait."""
    EQUAL = "equal"
    """Anything from half of it to all of it."""
    DECORRELATED = "decorrelated"
    """Anything from the first wait to three times the one before."""
    A6 = "a6"
    """20 % more or less (gRFC A6)."""
    NONE = "none"


def base_wait(backoff: Backoff, step: int, initial: float, multiplier: float) -> float:
    """Return the wait before jitter and cap; `step` counts from 0."""
    if backoff is Backoff.CONSTANT:
        return initial
    if backoff is Backoff.LINEAR:
        return initial * (step + 1)
    # Beyond any cap, and before the float overflows.
    return initial * multiplier ** min(step, 64)


def spread(jitter: Jitter, wait: float, *, initial: float, previous: float, cap: float) -> float:
    """Return the wait with jitter, at most `cap`."""
    wait = min(wait, cap)
    uniform = random.uniform
    if jitter is Jitter.FULL:
        return uniform(0.0, wait)
    if jitter is Jitter.EQUAL:
        return wait / 2 + uniform(0.0, wait / 2)
    if jitter is Jitter.A6:
        return min(wait * uniform(0.8, 1.2), cap)
    if jitter is Jitter.DECORRELATED:
        return min(uniform(initial, max(initial, previous * 3)), cap)
    return wait
