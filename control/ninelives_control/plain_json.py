"""JSON as RFC 8259 has it, read so that nobody else can read something different in it."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """Return what a text says.

    Raises:
        ValueError: It is no JSON, as NaN is none; or goes too deep; or an object has a name twice,
            of which a proxy on the way may have looked at the other one.
    """
    try:
        return json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it goes too deep") from None


def _constant(word: str) -> None:
    raise ValueError(f"it has no {word}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice[:100]!r} twice")
    return found
