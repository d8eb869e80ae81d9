"""GraphQL types for the JSON schemas of pydantic models.

`strawberry.pydantic` would mark the models themselves, also those of an application, and takes each
of them only once, though there may be several control planes in a process.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.tools import create_type
from strawberry.types.base import StrawberryList, StrawberryOptional
from strawberry.types.enum import EnumValue, StrawberryEnumDefinition
from strawberry.types.field import StrawberryField

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from strawberry.types.arguments import InputContext
    from strawberry.types.scalar import ScalarDefinition

Schema = dict[str, Any]

Long = NewType("Long", int)
ParameterValue = NewType("ParameterValue", object)
Json = NewType("Json", object)

_LONGEST = 2**63
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_SCALARS = {"boolean": bool, "integer": Long, "number": float, "string": str}


class UnfitError(ValueError):
    """A value that a client sent is none of a scalar."""


def _whole(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and -_LONGEST <= value < _LONGEST:
        return value
    raise UnfitError("a whole number of up to 64 bits is expected")


SCALARS: Mapping[object, ScalarDefinition] = {
    Long: strawberry.scalar(
        name="Long", description="A whole number of up to 64 bits.", parse_value=_whole
    ),
    ParameterValue: strawberry.scalar(
        name="ParameterValue",
        description="What a parameter can hold: a boolean, a number, or a text.",
        parse_value=lambda value: value,
    ),
    Json: strawberry.scalar(
        name="JSON", description="Any JSON value.", parse_value=lambda value: value
    ),
}
"""For the configuration of a schema. Whether a value fits is for the command to say."""


class Types:
    """Makes each type once, and gives it a name that no other has."""

    def __init__(self, taken: Iterable[str]) -> None:
        """Begin without types; `taken` are names that none may have."""
        self._names = set(taken)
        self._made: dict[str, Any] = {}

    def of(self, schema: Schema, definitions: Schema, *, sent: bool = False) -> Any:
        """Return the type for a schema, for annotations of strawberry.

        What GraphQL has no type for (a dictionary, a choice of objects, an object within itself)
        is `JSON`.

        Args:
            schema: What to make a type of.
            definitions: The `$defs` of the schema that it stands in.
            sent: Whether clients send it; or else they receive it.
        """
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._named(name, definitions, sent=sent)
        if "anyOf" in schema:
            return self._choice(schema["anyOf"], definitions, sent=sent)
        if schema.get("type") == "array" and "items" in schema:
            return StrawberryList(self.of(schema["items"], definitions, sent=sent))
        return _SCALARS.get(schema.get("type", ""), Json)

    def fields_of(
        self, schema: Schema, definitions: Schema, *, sent: bool = False
    ) -> list[tuple[str, Any, str]]:
        """Return name, type and description of each property of an object."""
        found = []
        for name, inner in schema.get("properties", {}).items():
            made = self.of(inner, definitions, sent=sent)
            if sent and name not in schema.get("required", ()):
                made = made if isinstance(made, StrawberryOptional) else StrawberryOptional(made)
            found.append((name, made, _described(inner)))
        return found

    def object(
        self,
        name: str,
        schema: Schema,
        definitions: Schema,
        *,
        sent: bool = False,
        leading: Sequence[StrawberryField] = (),
    ) -> Any:
        """Return the type for an object; one without properties is `JSON`.

        Args:
            name: Its name, if that is free.
            schema: What to make a type of.
            definitions: The `$defs` of the schema that it stands in.
            sent: Whether clients send it.
            leading: Fields that take the place of what the object has under their names.
        """
        taken = {field.python_name for field in leading}
        properties = self.fields_of(schema, definitions, sent=sent)
        if not properties:
            return Json
        fields = [
            StrawberryField(
                python_name=inner,
                type_annotation=StrawberryAnnotation(made),
                description=description,
            )
            for inner, made, description in properties
            if inner not in taken
        ]
        fields += leading
        made = create_type(self._free(name), fields, is_input=sent, description=_described(schema))
        if sent:
            definition: Any = made.__strawberry_definition__  # type: ignore[attr-defined]
            definition.from_input = _plain
        return made

    def _named(self, name: str, definitions: Schema, *, sent: bool) -> Any:
        schema = definitions[name]
        key = f"{name} {sent} {schema}"
        if key not in self._made:
            self._made[key] = Json  # for what contains itself
            if "enum" in schema:
                self._made[key] = self._enum(name, schema)
            elif schema.get("type") == "object":
                wanted = f"{name}Input" if sent else name
                self._made[key] = self.object(wanted, schema, definitions, sent=sent)
            else:
                self._made[key] = self.of(schema, definitions, sent=sent)
        return self._made[key]

    def _choice(self, options: list[Schema], definitions: Schema, *, sent: bool) -> Any:
        rest = [option for option in options if option.get("type") != "null"]
        if len(rest) == 1:
            made = self.of(rest[0], definitions, sent=sent)
        elif all(option.get("type") in _SCALARS for option in rest):
            made = ParameterValue
        else:
            made = Json
        return StrawberryOptional(made) if len(rest) < len(options) else made

    def _enum(self, name: str, schema: Schema) -> Any:
        words = schema["enum"]
        named = {word.upper() for word in words if isinstance(word, str) and _NAME.fullmatch(word)}
        if len(named) < len(words):
            return _SCALARS.get(schema.get("type", ""), Json)
        # The same words are one type, whether they are sent or received.
        key = f"{name} {schema}"
        if key not in self._made:
            members = {word.upper(): word for word in words}
            wrapped = StrEnum(name, members)  # type: ignore[misc]  # mypy wants to know the name
            self._made[key] = StrawberryEnumDefinition(
                wrapped_cls=wrapped,
                name=self._free(name),
                values=[EnumValue(word.upper(), word) for word in words],
                description=_described(schema),
            )
        return self._made[key]

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self._names:
            number += 1
            free = f"{name}{number}"
        self._names.add(free)
        return free


def _described(schema: Schema) -> str:
    text: str = schema.get("description", "")
    default = schema.get("default")
    return text if default is None or default == "" else f"{text} Default: {json.dumps(default)}."


def _plain(made: type, value: Mapping[str, Any], context: InputContext) -> dict[str, Any]:
    """Return an object that was sent with the names that its model has."""
    definition: Any = made.__strawberry_definition__  # type: ignore[attr-defined]
    plain = {}
    for field in definition.fields:
        name = context.config.name_converter.from_field(field)
        if name in value:
            plain[field.python_name] = context.convert(value[name], field.type, name)
    return plain
