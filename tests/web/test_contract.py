"""Every command has the same arguments and results on every transport, as these tell of it."""

from __future__ import annotations

import asyncio
import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    build_client_schema,
    get_introspection_query,
)
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from ninelives_control import ControlPlane
from ninelives_control.command import Effect
from ninelives_control.commands import BUILT_IN
from ninelives_control.identity import tokens as token_file
from ninelives_control.transports.grpc import messages
from ninelives_control.transports.mcp.tools import ERROR_SCHEMA
from ninelives_control.watch import watch
from ninelives_grpc import Registry
from tests.control.test_messages import METHODS, TYPED, arms, method_of
from tests.web.http_asker import fetch, post
from tests.web.mcp.clients import over_http

VALUE = {bool, int, float, str}
"""What a parameter can hold, besides nothing."""
PYTHON = {str: "text", bool: "flag", int: "whole", float: "number"}
JSON = {"string": "text", "boolean": "flag", "integer": "whole", "number": "number"}
GRAPHQL = {
    "String": "text",
    "Boolean": "flag",
    "Long": "whole",
    "Float": "number",
    "ParameterValue": "value",
}
PROTOBUF = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BOOL: "flag",
    FieldDescriptor.TYPE_INT32: "whole",
    FieldDescriptor.TYPE_INT64: "whole",
    FieldDescriptor.TYPE_DOUBLE: "number",
}


@dataclass(frozen=True)
class Field:
    """A field of a record, whoever tells of it.

    Attributes:
        name: Its name, in snake_case.
        kind: A word for a plain value, the words of a choice, the fields of a record, or a list
            with the kind of its entries.
        optional: Whether it may be left out or null.
    """

    name: str
    kind: Any
    optional: bool


# Models.


def of_model(model: type[BaseModel], *, sent: bool) -> tuple[Field, ...]:
    found = []
    for name, field in model.model_fields.items():
        kinds = arms(field.annotation)
        optional = types.NoneType in kinds or (sent and not field.is_required())
        kind = kind_of(kinds - {types.NoneType}, sent=sent)
        found.append(Field(name, kind, optional))
    return tuple(found)


def kind_of(kinds: set, *, sent: bool):
    if kinds == VALUE:
        return "value"
    (kind,) = kinds
    if typing.get_origin(kind) is list:
        return [kind_of(arms(typing.get_args(kind)[0]), sent=sent)]
    if issubclass(kind, BaseModel):
        return of_model(kind, sent=sent)
    return frozenset(kind) if issubclass(kind, StrEnum) else PYTHON[kind]


# JSON schemas, of OpenAPI and MCP.


def of_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> tuple[Field, ...]:
    schema = resolved(schema, definitions)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    found = []
    for name, inner in schema.get("properties", {}).items():
        kind, nullable = in_schema(inner, definitions)
        found.append(Field(name, kind, nullable or name not in schema.get("required", ())))
    return tuple(found)


def resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def in_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> tuple[Any, bool]:
    """Return the kind, and whether it may be null."""
    schema = resolved(schema, definitions)
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        nullable = len(options) < len(schema["anyOf"])
        if len(options) > 1:
            assert {option["type"] for option in options} == JSON.keys()
            return "value", nullable
        return in_schema(options[0], definitions)[0], nullable
    if schema["type"] == "array":
        return [in_schema(schema["items"], definitions)[0]], False
    if schema["type"] == "object":
        return of_schema(schema, definitions), False
    choice = "enum" in schema and schema["type"] == "string"
    return frozenset(schema["enum"]) if choice else JSON[schema["type"]], False


# GraphQL.


def of_fields(fields: dict[str, Any]) -> tuple[Field, ...]:
    """Take the fields of a type, or the arguments of a field."""
    return tuple(
        Field(name, of_type(field.type), not isinstance(field.type, GraphQLNonNull))
        for name, field in fields.items()
    )


def of_type(kind: Any):
    if isinstance(kind, GraphQLNonNull):
        return of_type(kind.of_type)
    if isinstance(kind, GraphQLList):
        return [of_type(kind.of_type)]
    if isinstance(kind, GraphQLObjectType | GraphQLInputObjectType):
        return of_fields(kind.fields)
    if isinstance(kind, GraphQLEnumType):
        return frozenset(word.lower() for word in kind.values)
    return GRAPHQL[kind.name]


def camel(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return fields with the names that GraphQL has for them."""
    return renamed(fields, lambda field: dataclasses.replace(field, name=to_camel(field.name)))


def renamed(fields: tuple[Field, ...], change) -> tuple[Field, ...]:
    def deep(kind):
        if isinstance(kind, list):
            return [deep(kind[0])]
        return renamed(kind, change) if isinstance(kind, tuple) else kind

    return tuple(change(dataclasses.replace(field, kind=deep(field.kind))) for field in fields)


# Protobuf.


def of_message(message: Any) -> tuple[Field, ...]:
    return tuple(Field(field.name, of_field(field), field.has_presence) for field in message.fields)


def of_field(field: Any):
    if field.message_type is not None:
        record = field.message_type.full_name != "google.protobuf.Value"
        kind = of_message(field.message_type) if record else "value"
    elif field.enum_type is not None:
        words = {messages._word(field.enum_type, value.number) for value in field.enum_type.values}
        kind = frozenset(words - {"unspecified"})
    else:
        kind = PROTOBUF[field.type]
    return [kind] if field.is_repeated else kind


def present(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return fields of which protobuf can tell whether they are set: all messages, but no lists."""

    def change(field: Field) -> Field:
        message = field.kind == "value" or isinstance(field.kind, tuple)
        optional = message or (field.optional and not isinstance(field.kind, list))
        return dataclasses.replace(field, optional=optional)

    return renamed(fields, change)


# What the transports tell.


@pytest.fixture(scope="module")
def tokens_path(tmp_path_factory):
    return tmp_path_factory.mktemp("contract") / "tokens.json"


@pytest.fixture(scope="module")
def token(tokens_path):
    return token_file.create(tokens_path, "admin", "admin")


@pytest.fixture(scope="module")
def plane(token, tokens_path):
    with ControlPlane(Registry(), grpc_port=0, http_port=0, tokens=tokens_path) as plane:
        yield plane


@pytest.fixture(scope="module")
def openapi(plane, token):
    shown = {"Authorization": f"Bearer {token}"}
    return fetch(plane, "GET", "/v1/openapi.json", headers=shown).json


@pytest.fixture(scope="module")
def schema(plane):
    return build_client_schema(post(plane, get_introspection_query()).json["data"])


@pytest.fixture(scope="module")
def tools(plane, token):
    async def main():
        async with over_http(f"http://127.0.0.1:{plane.http_port}", token) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    return asyncio.run(main())


every_command = pytest.mark.parametrize("command", TYPED, ids=lambda command: command.name)


def both(command):
    return of_model(command.arguments, sent=True), of_model(command.result, sent=False)


def test_the_table_is_all_that_there_is(plane, openapi, schema):
    assert list(plane.commands) == sorted(BUILT_IN, key=lambda entry: entry.name)
    assert set(METHODS) == {method_of(command).name for command in TYPED} | {"Execute", "Decline"}
    paths = {f"/v1/commands/{entry.name}" for entry in BUILT_IN} | {"/v1/watch"}
    assert set(openapi["paths"]) == paths
    reads = {to_camel(entry.name) for entry in BUILT_IN if entry.effect is Effect.READ}
    assert set(schema.query_type.fields) == reads | {"stacks"}
    changes = {to_camel(entry.name) for entry in BUILT_IN} - reads
    assert set(schema.mutation_type.fields) == changes


@every_command
def test_the_messages_of_the_rpc(command):
    method = method_of(command)
    arguments, result = both(command)

    assert of_message(method.input_type) == present(arguments)
    assert of_message(method.output_type) == present(result)
    assert bool(method.GetOptions().idempotency_level) is (command.effect is Effect.READ)
    assert (method.server_streaming, method.client_streaming) == (command is watch, False)


@every_command
def test_the_field_of_graphql(command, schema):
    arguments, result = both(command)
    if command is watch:
        field = schema.subscription_type.fields["events"]
        given = {name: each for name, each in field.args.items() if name != "names"}
    else:
        root = schema.query_type if command.effect is Effect.READ else schema.mutation_type
        field = root.fields[to_camel(command.name)]
        given = field.args

    assert of_fields(given) == camel(arguments)
    assert of_type(field.type) == camel(result)
    assert isinstance(field.type, GraphQLNonNull) is (command is watch)


@every_command
def test_the_operations_of_openapi(command, openapi):
    arguments, result = both(command)
    definitions = openapi["components"]["schemas"]
    path = "/v1/watch" if command is watch else f"/v1/commands/{command.name}"
    operations = openapi["paths"][path]
    reads, writes = command.effect is Effect.READ, command is not watch

    assert operations.keys() == {*["get"] * reads, *["post"] * writes}
    for operation in operations.values():
        (answer,) = operation["responses"]["200"]["content"].values()
        assert of_schema(answer["schema"], definitions) == result
    if writes:
        body = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert of_schema(body, definitions) == arguments
    if reads:
        asked = [each for each in operations["get"]["parameters"] if each["in"] == "query"]
        found = [(each, *in_schema(each["schema"], definitions)) for each in asked]
        assert arguments == tuple(
            Field(each["name"], kind, nullable or not each["required"])
            for each, kind, nullable in found
        )


@pytest.mark.parametrize("command", BUILT_IN, ids=lambda command: command.name)
def test_the_tool_of_mcp(command, tools):
    arguments, result = both(command)
    tool = tools[command.name]
    told, error = tool.output_schema["anyOf"]

    assert of_schema(tool.input_schema, {}) == arguments
    assert of_schema(told, {}) == result
    assert error == ERROR_SCHEMA
