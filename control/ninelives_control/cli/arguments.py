"""Make arguments and options of the JSON schema of what a command is told.

What is required stands in its place; the rest are options, with a flag for each yes or no, and an
option to be repeated for each list. Objects of a list may come from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ninelives_control.cli.addresses import completing
from ninelives_control.cli.values import JSON, VALUE, Pair, Pairs, Words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Schema = dict[str, Any]

_NUMBERS: dict[str, tuple[type[Any], click.ParamType[Any]]] = {
    "integer": (click.IntRange, click.INT),
    "number": (click.FloatRange, click.FLOAT),
}
_BOUNDS: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("minimum", "min", {}),
    ("exclusiveMinimum", "min", {"min_open": True}),
    ("maximum", "max", {}),
    ("exclusiveMaximum", "max", {"max_open": True}),
)
_FROM_FILE = " @FILE stands for those in a file of JSON, @- for those on standard input."
_SCALARS = {"boolean", "integer", "number", "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument of a command.

    Attributes:
        name: Its name.
        description: What it is.
        parameter: What it is on the command line.
    """

    name: str
    description: str
    parameter: click.Parameter

    @property
    def key(self) -> str:
        """Under what name click has its value."""
        return _key(self.name)


def fields_of(schema: Schema) -> list[Field]:
    """Return the arguments that a schema declares, in that order."""
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    fields: list[Field] = []
    several = False
    for name, declared in schema.get("properties", {}).items():
        field = _resolved(declared, definitions)
        listed = field.get("type") == "array"
        # Only one argument can take as many words as there are.
        if name not in required or (listed and several):
            made = _option(name, field, definitions, required=name in required)
        else:
            several = several or listed
            made = _argument(name, field, definitions)
        said = _said(field, made.type)
        fields.append(Field(name=name, description=said, parameter=made))
    return fields


def _argument(name: str, field: Schema, definitions: Mapping[str, Schema]) -> click.Parameter:
    item, kind, listed = _item(name, field, definitions, required=True)
    return click.Argument(
        [_key(name)],
        type=kind,
        nargs=-1 if listed else 1,
        required=True,
        metavar=f"{kind.name}..." if isinstance(kind, Pairs) else name.upper(),
        shell_complete=completing(name, item),
        callback=_joined if isinstance(kind, Pairs) else None,
    )


def _option(
    name: str, field: Schema, definitions: Mapping[str, Schema], *, required: bool
) -> click.Parameter:
    switch = f"--{name.replace('_', '-')}"
    default = field.get("default")
    if field.get("type") == "boolean":
        both = switch if default is False else f"{switch}/--no-{switch[2:]}"
        said = str(field.get("description", ""))
        return click.Option([_key(name), both], is_flag=True, default=default, help=said)
    item, kind, listed = _item(name, field, definitions, required=required)
    shown = None if default in ("", None) or isinstance(default, list | dict) else default
    return click.Option(
        [_key(name), switch],
        type=kind,
        multiple=listed,
        required=required,
        default=str(shown) if isinstance(kind, Words) and shown is not None else shown,
        show_default=shown is not None,
        help=_said(field, kind) + (" May be repeated." if listed else ""),
        metavar=kind.name if isinstance(kind, Pair | Pairs) else None,
        shell_complete=completing(name, item),
        callback=_joined if isinstance(kind, Pairs) else None,
    )


def _said(field: Schema, kind: click.ParamType[Any]) -> str:
    return str(field.get("description", "")) + (_FROM_FILE if isinstance(kind, Pairs) else "")


def _joined(
    _context: click.Context, _parameter: click.Parameter, parts: Sequence[list[Any]]
) -> list[Any]:
    """Make one list of those that words stand for."""
    return [each for part in parts for each in part]


def _item(
    name: str, field: Schema, definitions: Mapping[str, Schema], *, required: bool
) -> tuple[Schema, click.ParamType[Any], bool]:
    """Return the schema and the type of a word, and whether there may be several."""
    if field.get("type") == "array" and not field.get("nullable"):
        item = _resolved(field.get("items", {}), definitions)
        kind = _type(item, definitions)
        return item, Pairs(name, kind) if isinstance(kind, Pair) else kind, True
    if field.get("nullable") and (required or field.get("default") is not None):
        return field, VALUE, False
    return field, _type(field, definitions), False


def _type(field: Schema, definitions: Mapping[str, Schema]) -> click.ParamType[Any]:
    kind = field.get("type")
    if "enum" in field or "const" in field:
        return Words(field.get("enum", [field.get("const")]))
    if kind in _NUMBERS:
        ranged, free = _NUMBERS[kind]
        bounds: dict[str, Any] = {}
        for keyword, name, more in _BOUNDS:
            if keyword in field:
                bounds |= {name: field[keyword], **more}
        return ranged(**bounds) if bounds else free
    if kind == "boolean":
        return click.BOOL
    if kind == "string":
        return click.STRING
    if kind == "object":
        return _pair(field, definitions) or JSON
    return JSON if kind == "array" else VALUE


def _pair(field: Schema, definitions: Mapping[str, Schema]) -> Pair | None:
    """Return how an object with two plain things in it is written, such as PATH=VALUE."""
    required = field.get("required", ())
    parts = {name: _resolved(field["properties"][name], definitions) for name in required}
    if len(parts) != 2 or not all(_plain(part) for part in parts.values()):  # noqa: PLR2004
        return None
    (left, first), (right, second) = parts.items()
    return Pair((left, _type(first, definitions)), (right, _type(second, definitions)))


def _plain(field: Schema) -> bool:
    kinds = field.get("anyOf", [field])
    return all(kind.get("type") in _SCALARS | {"null"} for kind in kinds)


def _resolved(field: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Follow references, and take `X or null` for an X that is `nullable`."""
    rest = dict(field)
    reference = rest.pop("$ref", None)
    if reference is not None:
        return _resolved(definitions[reference.rpartition("/")[2]], definitions) | rest
    kinds = [kind for kind in rest.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) == 1:
        nullable = len(rest.pop("anyOf")) > 1
        return _resolved(kinds[0], definitions) | rest | {"nullable": nullable}
    return rest


def _key(name: str) -> str:
    """Keep names of arguments apart from those of our own options."""
    return f"argument_{name}"
