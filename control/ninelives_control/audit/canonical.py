"""Values as JSON that is the same each time, for the audit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic_core import to_json

from ninelives_control.audit.redaction import redacted
from ninelives_control.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 16_384
"""Characters that are kept of what nobody has looked at yet."""
WHOLE = 2**23
"""Characters that are kept of what is valid; no transport takes as many."""
CUT = "cut"
"""Names the beginning of what was not kept whole."""


def canonical(value: object, longest: int = LONGEST) -> str:
    """Return a value as JSON with sorted keys, in ASCII; what is too long is cut."""
    return _written(value, lambda plain: plain, longest)


def canonical_arguments(arguments: Mapping[str, object], longest: int = LONGEST) -> str:
    """Return arguments likewise, without the secrets in them, see `redaction`."""
    return _written(dict(arguments), redacted, longest)


def _written(value: object, change: Callable[[object], object], longest: int) -> str:
    try:
        plain = change(json.loads(to_json(value, fallback=repr, inf_nan_mode="strings")))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        # It contains itself, or goes too deep.
        text = json.dumps(f"a {type(value).__name__} that is no JSON")
    if len(text) <= longest:
        return text
    return json.dumps({CUT: shortened(text, LONGEST // 16), "length": len(text)})
