"""JSON schemas as clients of language models like them: in one piece, and short.

Many of them do not follow references, and hand every word of a schema to the model.
"""

from __future__ import annotations

from typing import Any

_DEFINITIONS = "#/$defs/"
_NAMED = "properties"
"""The keyword whose value has names for keys, and not keywords: a property may be called title."""

_VALUES = {"const", "default", "enum", "examples"}
"""Keywords whose value is a value, and no schema."""

Schema = dict[str, Any]


def inlined(schema: Schema) -> Schema:
    """Return a schema with every reference replaced by what it refers to, and without titles.

    A definition that contains itself stays, and so does what refers to it.
    """
    definitions = schema.get("$defs", {})
    kept: set[str] = set()
    plain: Schema = _inlined(schema, definitions, kept, ())
    if kept:
        needed: set[str] = set()
        plain["$defs"] = {}
        while missing := kept - needed:
            needed |= missing
            for name in sorted(missing):
                plain["$defs"][name] = _inlined(definitions[name], definitions, kept, (name,))
    return plain


def _inlined(value: Any, definitions: Schema, kept: set[str], within: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_inlined(item, definitions, kept, within) for item in value]
    if not isinstance(value, dict):
        return value
    name = str(value.get("$ref", "")).removeprefix(_DEFINITIONS)
    if name in within:
        kept.add(name)
        return value
    if name in definitions:
        found = _inlined(definitions[name], definitions, kept, (*within, name))
        beside = {key: item for key, item in value.items() if key != "$ref"}
        return found | _inlined(beside, definitions, kept, within)
    plain: Schema = {}
    for key, item in value.items():
        if key == _NAMED:
            plain[key] = {
                name: _inlined(schema, definitions, kept, within) for name, schema in item.items()
            }
        elif key in _VALUES:
            plain[key] = item
        elif key not in {"title", "$defs"}:
            plain[key] = _inlined(item, definitions, kept, within)
    return plain
