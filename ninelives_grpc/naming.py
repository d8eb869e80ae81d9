"""One name in the cases that Python, gRPC and GraphQL have for it."""

from __future__ import annotations

import re

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake_case(name: str) -> str:
    """Return `CircuitBreaker` or `circuitBreaker` as `circuit_breaker`."""
    return _WORDS.sub("_", name).lower()
