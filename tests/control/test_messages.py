"""The messages of the protos carry what the models hold, both ways."""

import re
import types
import typing
from enum import StrEnum

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ninelives_control.commands import BUILT_IN
from ninelives_control.model import ParameterValue
from ninelives_control.transports.grpc import messages
from ninelives_control.transports.grpc.service import SERVICE
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.watch import watch

TYPED = (*BUILT_IN, watch)
METHODS = {method.name: method for method in SERVICE.methods}
VALUE_ARMS = {bool, int, float, str, types.NoneType}


def method_of(command):
    return METHODS[command.name.title().replace("_", "")]


def arms(annotation):
    """Take an annotation apart into the types it may be, without `Annotated` around them."""
    if typing.get_origin(annotation) is typing.Annotated:
        return arms(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return {arm for part in typing.get_args(annotation) for arm in arms(part)}
    return {annotation}


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        (pb.SetParameterRequest(), {"path": ""}),
        (
            pb.SetParameterRequest(path="a/b/c", value=Value(number_value=5), dry_run=False),
            {"path": "a/b/c", "value": 5, "dry_run": False},
        ),
        (
            pb.SetParameterRequest(path="a", value=Value(null_value=NullValue.NULL_VALUE)),
            {"path": "a", "value": None},
        ),
        (pb.SetParameterRequest(path="a", value=Value()), {"path": "a"}),
        (
            pb.SetParameterRequest(path="a", value=Value(list_value=ListValue())),
            {"path": "a", "value": []},
        ),
        (
            pb.ApplyParametersRequest(
                changes=[pb.WantedValue(path="a/b/c", value=Value(number_value=5))], lease=2.5
            ),
            {"changes": [{"path": "a/b/c", "value": 5}], "lease": 2.5},
        ),
        (pb.ForceCircuitBreakerRequest(path="a", mode=0), {"path": "a"}),
        (
            pb.ForceCircuitBreakerRequest(path="a", mode=pb.MODE_METRICS_ONLY),
            {"path": "a", "mode": "metrics_only"},
        ),
        (pb.ForceCircuitBreakerRequest(path="a", mode=99), {"path": "a", "mode": "99"}),
        (pb.ListStacksRequest(limit=0, match=""), {"limit": 0, "match": ""}),
        (pb.ResetCircuitBreakerRequest(path="a", key=""), {"path": "a", "key": ""}),
    ],
    ids=str,
)
def test_only_what_is_set_becomes_an_argument(request_, arguments):
    assert messages.arguments_of(request_) == arguments


def test_a_whole_number_is_whole_again():
    for number, kept in ((5.0, int), (-3.0, int), (2.0**53, int), (2.0**60, float), (0.5, float)):
        assert type(messages.plain(Value(number_value=number))) is kept


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=4))
def test_what_json_can_say_survives_a_struct(values):
    struct = Struct()

    messages.put_struct(struct, values)

    assert messages.plain_struct(Struct.FromString(struct.SerializeToString())) == values


def test_what_json_cannot_say_is_an_error():
    with pytest.raises(TypeError, match="JSON has no bytes"):
        messages.put(Value(), b"x")


def filled(model: type[BaseModel]) -> BaseModel:
    """Make a result with something in every field."""
    return model.model_validate(
        {name: some(field.annotation) for name, field in model.model_fields.items()}
    )


def some(annotation):
    kinds = arms(annotation)
    if kinds == VALUE_ARMS:
        return "text"
    (kind,) = kinds - {types.NoneType}
    if typing.get_origin(kind) is list:
        return [some(typing.get_args(kind)[0])] * 2
    if issubclass(kind, BaseModel):
        return filled(kind)
    if issubclass(kind, StrEnum):
        return list(kind)[-1]
    return {str: "text", bool: True, int: 7, float: 0.5}[kind]


@pytest.mark.parametrize("command", TYPED, ids=lambda command: command.name)
def test_a_result_fills_its_message(command):
    result = filled(command.result).model_dump(mode="json")
    message = GetMessageClass(method_of(command).output_type)()

    messages.fill(message, result)

    told = MessageToDict(message, preserving_proto_field_name=True)
    assert normal(told) == normal(result)
    assert messages.values_of(message) == result


def normal(value, name=""):
    """Bring both forms to one: 64-bit numbers are texts in protobuf's JSON, enums have prefixes."""
    if isinstance(value, dict):
        return {key: normal(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [normal(inner, name) for inner in value]
    if isinstance(value, str):
        return re.sub(
            r"^(mode|effect|parameter_type|severity|circuit_state|role|rule_outcome|outcome)_",
            "",
            value.lower(),
        )
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_nothing_is_left_out_where_null_is_a_value():
    message = pb.SetParameterResponse()

    values = {"path": "a/b/c", "old": None, "new": 0, "revision": 2, "dry_run": False}
    messages.fill(message, values | {"id": "1", "until": None, "findings": []})

    assert message.old.WhichOneof("kind") == "null_value"
    assert message.new.number_value == 0


def test_the_value_of_a_parameter_is_no_longer_than_it_has_to_be():
    assert arms(ParameterValue) == VALUE_ARMS
