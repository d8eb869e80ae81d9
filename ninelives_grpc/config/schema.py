"""A JSON schema of the file, for editors and other tools, taken from the policies' declarations."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.config.values import BUDGETS, GAUGES, KINDS, LAWS
from ninelives_grpc.parameters import settings, specs
from ninelives_grpc.policies.budget import Budget
from ninelives_grpc.presets import PRESETS, Preset

if TYPE_CHECKING:
    from ninelives_grpc.laws import Law
    from ninelives_grpc.parameters import Spec
    from ninelives_grpc.policies.policy import Policy

Schema = dict[str, Any]

_NAME = {"type": "string", "pattern": "^([a-z][a-z0-9_]*)?$"}
_CODES: Schema = {
    "type": "array",
    "items": {"enum": list(grpc.StatusCode.__members__)},
    "uniqueItems": True,
}
_PATTERN = r"^(\*|/?[^*/]+/(\*|[^*/]+))$"


def schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a configuration, in TOML or JSON.

    It is published as `ninelives_grpc/config.schema.json`. It can not know the policies that a
    program hands in, nor which of a stack's tables its expression uses: `ninelives check` does.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ninelives-grpc",
        "description": "Stacks of resilience policies, and which method goes to which.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "stacks": {
                "description": "Compositions of policies, by name.",
                "type": "object",
                "propertyNames": {"pattern": "^[^/]+$"},
                "additionalProperties": {"$ref": "#/$defs/stack"},
            },
            "budgets": {
                "description": "What pays for repetitions; stacks that call one target share one.",
                "type": "object",
                "additionalProperties": {
                    "oneOf": [{"$ref": f"#/$defs/budget_{name}"} for name in BUDGETS]
                },
            },
            "routes": {
                "description": "From package.Service/Method, package.Service/* or * to a stack; "
                'an empty text ("") leaves a method unprotected.',
                "type": "object",
                "propertyNames": {"pattern": _PATTERN},
                "additionalProperties": {"type": "string"},
            },
        },
        "$defs": {
            "stack": {"if": {"required": ["preset"]}, "then": _preset(), "else": _stack()},
            **{name: _policy(kind) for name, kind in KINDS.items()},
            **{f"budget_{name}": _budget(name, kind) for name, kind in BUDGETS.items()},
            **{f"law_{name}": _law(name, kind) for name, kind in LAWS.items()},
        },
    }


def _preset() -> Schema:
    overrides = {name: _overrides(preset) for name, preset in PRESETS.items()}
    # Those with the same policies are told apart by nothing.
    kinds = {tuple(each): each for each in overrides.values()}
    return {
        "description": "A whole stack for a common case.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "preset": {"enum": list(PRESETS)},
            "overrides": {
                "description": "Other values, by policy/parameter.",
                "type": "object",
                "properties": {
                    name: spec for each in kinds.values() for name, spec in each.items()
                },
            },
            "loops": _loops(),
        },
        "allOf": [
            {
                "if": {
                    "properties": {
                        "preset": {"enum": [n for n, each in overrides.items() if each == kind]}
                    }
                },
                "then": {"properties": {"overrides": {"propertyNames": {"enum": list(kind)}}}},
            }
            for kind in kinds.values()
        ],
    }


def _overrides(preset: Preset) -> Schema:
    return {
        f"{part.name or part.default_name()}/{name}": _parameter(spec)
        for part in preset.parts()
        for name, spec in specs(type(part)).items()
    }


def _stack() -> Schema:
    return {
        "description": "Policies composed by + | and &, with a table of settings each.",
        "type": "object",
        "required": ["expression"],
        "additionalProperties": False,
        "properties": {
            "expression": {
                "description": "Such as timeout + retry + circuit_breaker, as in Python.",
                "type": "string",
            },
            "loops": _loops(),
        },
        "patternProperties": {
            f"^{name}(_[a-z0-9_]+)?$": {"$ref": f"#/$defs/{name}"} for name in KINDS
        },
    }


def _policy(kind: type[Policy]) -> Schema:
    told, hints, known = _told(kind), typing.get_type_hints(kind), specs(kind)
    properties: Schema = {}
    for name in settings(kind):
        found = _parameter(known[name]) if name in known else _option(name, hints[name])
        if found is None:
            continue
        if name not in known and name in told:
            found = {"description": told[name], **found}
        properties[name] = found
    if "classify" in hints:
        text = "Status codes that count as failures; all others are answers."
        properties["failure_codes"] = {"description": text, **_CODES}
    required = [name for name, needed in settings(kind).items() if needed and name in properties]
    made: Schema = {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**made, "required": required} if required else made


def _budget(name: str, kind: type[Budget]) -> Schema:
    made = _policy(kind)
    made["properties"] = {"kind": {"const": name}, **made["properties"]}
    # One without a kind is of the first kind.
    if name != next(iter(BUDGETS)):
        made["required"] = ["kind", *made.get("required", [])]
    return made


def _loops() -> Schema:
    return {
        "description": "Laws that move parameters of the stack by how calls go, by name.",
        "type": "object",
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
        "additionalProperties": {"oneOf": [{"$ref": f"#/$defs/law_{name}"} for name in LAWS]},
    }


def _law(name: str, kind: type[Law]) -> Schema:
    made = _policy(kind)
    del made["properties"]["name"]
    made["properties"] = {
        "law": {"const": name},
        "parameter": {
            "description": "What it moves, by policy/parameter.",
            "type": "string",
            "pattern": "^[^/]+/[^/]+$",
        },
        "gauge": {
            "description": f"What it reads: {', '.join(GAUGES)}, or what the program gives.",
            "type": "string",
        },
        **made["properties"],
    }
    made["required"] = ["law", "parameter", *made.get("required", [])]
    return made


def _parameter(spec: Spec) -> Schema:
    made: Schema = {"description": f"{spec.doc} Unit: {spec.unit}." if spec.unit else spec.doc}
    if spec.choices:
        made["enum"] = [*spec.choices, None] if spec.optional else list(spec.choices)
    else:
        names = {bool: "boolean", int: "integer", float: "number"}
        word = names[spec.type]
        made["type"] = [word, "null"] if spec.optional else word
    for key, bound in (("minimum", spec.low), ("maximum", spec.high)):
        if bound is not None:
            made[key] = bound
    if spec.default is not None or spec.optional:
        made["default"] = str(spec.default) if spec.choices else spec.default
    return made


def _option(name: str, hint: Any) -> Schema | None:
    """Describe an option that a file can hold; None for functions, channels and the like."""
    if name == "name":
        return dict(_NAME)
    arms = [_arm(arm) for arm in _arms(hint)]
    shown = [arm for arm in arms if arm is not None]
    if not shown:
        return None
    return shown[0] if len(shown) == 1 else {"anyOf": shown}


def _arms(hint: Any) -> tuple[Any, ...]:
    unions = {typing.Union, types.UnionType}
    return typing.get_args(hint) if typing.get_origin(hint) in unions else (hint,)


def _arm(hint: Any) -> Schema | None:
    if typing.get_origin(hint) is collections.abc.Collection:
        (item,) = typing.get_args(hint)
        if item is grpc.StatusCode:
            return dict(_CODES)
        return {"type": "array", "items": {"type": "string"}} if item is str else None
    if not isinstance(hint, type):
        return None
    if issubclass(hint, StrEnum):
        return {"enum": [str(word) for word in hint]}
    if issubclass(hint, Budget):
        return {"type": "string"}
    return {bool: {"type": "boolean"}, str: {"type": "string"}}.get(hint)


def _told(kind: type[Policy]) -> dict[str, str]:
    """Return what the docstring says of each argument, on one line."""
    section = re.search(r"\n\s+Args:\n(.*?)(\n\n|\Z)", kind.__doc__ or "", re.DOTALL)
    if section is None:
        return {}
    pairs = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", section[1], re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in pairs}
