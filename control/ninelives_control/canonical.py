"""Values as JSON that is the same each time, for the audit."""

from __future__ import annotations

import json

from pydantic_core import to_json

from ninelives_control.errors import shortened

LONGEST = 16_384
"""Characters that are kept of what nobody has looked at yet."""
WHOLE = 2**23
"""Characters that are kept of what is valid; no transport takes as many."""


def canonical(value: object, longest: int = LONGEST) -> str:
    """Return a value as JSON with sorted keys, in ASCII; what is too long is cut."""
    try:
        plain = json.loads(to_json(value, fallback=repr, inf_nan_mode="strings"))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        # It contains itself, or goes too deep.
        text = json.dumps(f"a {type(value).__name__} that is no JSON")
    if len(text) <= longest:
        return text
    return json.dumps({"cut": shortened(text, LONGEST // 16), "length": len(text)})
