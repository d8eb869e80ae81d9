"""Between protobuf messages and the plain values that commands take and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.struct_pb2 import Struct, Value

from ninelives_grpc.naming import snake_case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_EXACT = 2**53


def arguments_of(message: Message) -> dict[str, object]:
    """Return the fields that are set, as plain values by name."""
    arguments: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.enum_type is not None:
            if value:
                arguments[field.name] = _word(field.enum_type, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value:
                nested = field.message_type is not None
                arguments[field.name] = [arguments_of(one) if nested else one for one in value]
        elif not isinstance(value, Value):
            arguments[field.name] = value
        elif value.WhichOneof("kind"):
            arguments[field.name] = plain(value)
    return arguments


def fill(message: Message, values: Mapping[str, Any]) -> None:
    """Set the fields of a message from plain values by name."""
    for field in message.DESCRIPTOR.fields:
        value = values[field.name]
        if isinstance(value, list):
            _extend(getattr(message, field.name), value)
        elif field.message_type is not None:
            _fill_one(getattr(message, field.name), value)
        elif value is not None:
            setattr(message, field.name, _scalar(field, value))


def values_of(message: Message) -> dict[str, Any]:
    """Return all fields as plain values by name, those of messages within it too."""
    return {field.name: _value_of(message, field) for field in message.DESCRIPTOR.fields}


def plain(value: Value) -> object:
    """Return a protobuf value as Python has it; a whole number becomes an `int` again."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return plain_struct(value.struct_value)
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return getattr(value, kind)


def plain_struct(struct: Struct) -> dict[str, object]:
    """Return a protobuf struct as a dictionary."""
    return {name: plain(value) for name, value in struct.fields.items()}


def put(target: Value, value: object) -> None:
    """Set a protobuf value from what JSON can say."""
    match value:
        case None:
            target.null_value = 0  # type: ignore[assignment]
        case bool():
            target.bool_value = value
        case int() | float():
            target.number_value = float(value)
        case str():
            target.string_value = value
        case dict():
            put_struct(target.struct_value, value)
        case list():
            target.list_value.SetInParent()
            for item in value:
                put(target.list_value.values.add(), item)
        case _:
            msg = f"JSON has no {type(value).__name__}"
            raise TypeError(msg)


def put_struct(target: Struct, values: Mapping[str, object]) -> None:
    """Set a protobuf struct from a dictionary of what JSON can say."""
    target.SetInParent()
    for name, value in values.items():
        put(target.fields[name], value)


def _fill_one(message: Message, value: Any) -> None:
    if isinstance(message, Value):
        put(message, value)
    else:
        message.SetInParent()
        fill(message, value)


def _extend(target: Any, values: list[Any]) -> None:
    for value in values:
        if isinstance(value, dict):
            _fill_one(target.add(), value)
        else:
            target.append(value)


# The descriptors of protobuf's C part and of its Python part have no common type: `Any` below.


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value
    return word_number(field.enum_type, value)


def word_number(enum: Any, word: str) -> int:
    """Return the number of a word."""
    number: int = enum.values_by_name[_prefix(enum) + word.upper()].number
    return number


def _value_of(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_single(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return _word(field.enum_type, value)
    if isinstance(value, Value):
        return plain(value)
    return values_of(value) if field.message_type is not None else value


def _word(enum: Any, number: int) -> str:
    """Return the word for a number: MODE_METRICS_ONLY of Mode is metrics_only."""
    known = enum.values_by_number.get(number)
    if known is None:
        return str(number)
    word: str = known.name
    return word.removeprefix(_prefix(enum)).lower()


def _prefix(enum: Any) -> str:
    return f"{snake_case(enum.name).upper()}_"
