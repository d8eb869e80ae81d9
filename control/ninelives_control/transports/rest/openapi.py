"""The OpenAPI 3.1 description of the commands, made of their models."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from ninelives_control.command import Effect
from ninelives_control.errors import ERROR_PROPERTIES
from ninelives_control.watch import Watched, WatchEvents

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

    from ninelives_control.command import Command, CommandTable

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_PROBLEM: Schema = {
    "type": "object",
    "description": "What is wrong, and the remedy (RFC 9457).",
    "properties": {
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and the remedy."},
        **ERROR_PROPERTIES,
    },
    "required": ["status", "code", "detail"],
}
MATCH = '^"[1-9][0-9]{0,17}(-[0-9a-f]{16})?"$'
"""Pattern of an `If-Match`: a revision as an entity tag, or the tag of a result that has one."""
_ETAG = {
    "schema": {"type": "string"},
    "description": "The revision if there is one, and what the content comes to.",
}


def described(commands: CommandTable) -> Schema:
    """Return the description of these commands."""
    entries = list(commands)
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (WatchEvents, "validation"),
        (Watched, "serialization"),
    ]
    for entry in entries:
        models += [(entry.arguments, "validation"), (entry.result, "serialization")]
    # A model may be the argument of several commands.
    unique = list(dict.fromkeys(models))
    references, definitions = models_json_schema(unique, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ninelives",
            "version": metadata.version("ninelives-grpc"),
            "description": "Read state and tune every parameter while calls are in flight.",
        },
        "security": [{"token": []}],
        "paths": {
            f"/v1/commands/{entry.name}": _command(entry, references, definitions["$defs"])
            for entry in entries
        }
        | {"/v1/watch": _watch(references, definitions["$defs"])},
        "components": {
            "schemas": {**definitions["$defs"], "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _command(entry: Command[Any, Any], references: Any, definitions: Schema) -> Schema:
    arguments = references[entry.arguments, "validation"]
    answers = _answers(references[entry.result, "serialization"], "application/json")
    path: Schema = {
        "post": {
            "operationId": entry.name,
            "summary": entry.summary,
            "x-ninelives-effect": str(entry.effect),
            "parameters": _matching(entry),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": arguments}},
            },
            "responses": answers,
        }
    }
    if entry.effect is Effect.READ:
        path["get"] = {
            "operationId": f"get_{entry.name}",
            "summary": entry.summary,
            "parameters": [*_query(_of(arguments, definitions)), _header("If-None-Match", {})],
            "responses": {**answers, "304": {"description": "It is as it was."}},
        }
    return path


def _watch(references: Any, definitions: Schema) -> Schema:
    asked = _of(references[WatchEvents, "validation"], definitions)
    return {
        "get": {
            "operationId": "watch",
            "summary": "Send the state, and then every event as it happens.",
            "parameters": _query(asked),
            "responses": _answers(references[Watched, "serialization"], "text/event-stream"),
        }
    }


def _of(reference: Schema, definitions: Schema) -> Schema:
    found: Schema = definitions[reference["$ref"].rpartition("/")[2]]
    return found


def _query(schema: Schema) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": of.get("description", ""),
            "schema": {key: value for key, value in of.items() if key != "description"},
        }
        for name, of in schema.get("properties", {}).items()
    ]


def _matching(entry: Command[Any, Any]) -> list[Schema]:
    tag = {"pattern": MATCH}
    return [_header("If-Match", tag)] if "expected_revision" in entry.arguments.model_fields else []


def _header(name: str, form: Schema) -> Schema:
    schema = {"type": "string", **form}
    return {"name": name, "in": "header", "required": False, "schema": schema}


def _answers(schema: Schema, kind: str) -> Schema:
    return {
        "200": {
            "description": "What it answers.",
            "headers": {"ETag": _ETAG} if kind == "application/json" else {},
            "content": {kind: {"schema": schema}},
        },
        "default": {
            "description": "It did not run, or failed.",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        },
    }
