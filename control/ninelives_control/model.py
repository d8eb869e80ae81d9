"""What arguments and results are made of: frozen models, plain values, pages of a list."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from ninelives_control.audit.redaction import without_tokens
from ninelives_control.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_grpc.parameters import Value

T = TypeVar("T")

MAX_TEXT = 1000
"""Characters that a text argument may have, so that nobody can flood the audit."""
MAX_PAGE = 1000
POLICY_PATTERN = "^[^/]+/[^/]+$"
PARAMETER_PATTERN = "^[^/]+/[^/]+/[^/]+$"
"""What stands in schemas for addresses; clients know by it what is one."""
_MAX_INTEGER = 2**63 - 1


def _plain(value: object) -> object:
    """Let through what JSON can say in one word; a `StrEnum` becomes its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return str(value)
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise PydanticCustomError(
        "parameter_value",
        "must be true, false, a finite number, a text of up to 1000 characters, or null",
    )


ParameterValue = Annotated[bool | int | float | str | None, BeforeValidator(_plain)]
"""What a parameter can hold: one plain JSON value, whose type is kept (3 is not 3.0 or true)."""

Text = Annotated[str, Field(max_length=MAX_TEXT)]
"""A text argument of bounded length."""

Reason = Annotated[
    Text,
    # Events go further than the audit, which masks it anyway.
    AfterValidator(without_tokens),
    Field(description="Why, for the audit and the event."),
]
"""Why something is to change."""

IdempotencyKey = Annotated[
    str,
    Field(
        max_length=100,
        description="A word of your own: if it is sent again with the same command, that does not "
        "run again, and the result of the first time is returned.",
    ),
]
"""What tells a repetition from a second wish."""

Lease = Annotated[
    float | None,
    Field(
        ge=0.1,
        le=604_800.0,
        description="Seconds, up to a week, after which the old value returns by itself.",
    ),
]
"""How long a change is to hold."""


def _address(form: str) -> Callable[[str], str]:
    """Make the check of an address of the given form."""
    names = form.count("/") + 1

    def check(path: str) -> str:
        if len(path.split("/")) != names or not all(path.split("/")):
            raise PydanticCustomError("address", "must be an address, {form}", {"form": form})
        return path

    return check


PolicyPath = Annotated[
    Text,
    AfterValidator(_address("stack/policy")),
    Field(json_schema_extra={"pattern": POLICY_PATTERN}),
]
"""The address of a policy."""

ParameterPath = Annotated[
    Text,
    AfterValidator(_address("stack/policy/parameter")),
    Field(json_schema_extra={"pattern": PARAMETER_PATTERN}),
]
"""The address of a parameter."""


class Model(BaseModel):
    """What all models have in common: they cannot be changed, and take no fields they don't know.

    Every field has a description, a choice is a `StrEnum`, and there are no dictionaries: a list of
    `NamedValue` can be said in protobuf and GraphQL as well as in JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Arguments(Model):
    """What a command is told, in the types that its schema has: false is no number, "5" neither."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _keep(cls, given: object, validate: ValidatorFunctionWrapHandler) -> object:
        """Refuse what pydantic has made something else of."""
        made: object = validate(given)
        if isinstance(made, bool) and not isinstance(given, bool):
            raise PydanticCustomError("flag", "must be true or false")
        if isinstance(made, int | float) and isinstance(given, str | bool) and given is not made:
            raise PydanticCustomError("number", "must be a number")
        return made


class Result(Model):
    """What a command answers.

    A result that has an `old` and a `new`, as fields or properties, has both of them in the audit.
    """


class NamedValue(Model):
    """One entry of what would be a dictionary."""

    name: str = Field(description="What it is.")
    value: ParameterValue = Field(description="How much or which it is.")


def named(values: Mapping[str, Value]) -> list[NamedValue]:
    """Return a dictionary as entries; what does not fit a `ParameterValue` is told as text."""
    return [NamedValue(name=name, value=_told(value)) for name, value in values.items()]


def _told(value: Value) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return shortened(value, MAX_TEXT) if isinstance(value, str) else value


class Page(Arguments):
    """Which part of a list to return."""

    offset: int = Field(default=0, ge=0, le=1_000_000, description="Entries to leave out first.")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Entries to return at most.")

    def of(self, entries: Sequence[T]) -> Sequence[T]:
        """Return this part of a list."""
        return entries[self.offset : self.offset + self.limit]
