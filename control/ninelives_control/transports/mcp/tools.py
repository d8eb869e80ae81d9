"""Commands as MCP tools, and what comes of them as results of tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic_core import to_json

from ninelives_control.command import Effect
from ninelives_control.errors import ERROR_PROPERTIES
from ninelives_control.transports.mcp.schema import inlined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_control.errors import CommandError

_NEEDS = {
    Effect.READ: "",
    Effect.CHANGE: " It changes what runs, at once, and is written down in the audit.",
    Effect.DESTRUCTIVE: " It can not be undone: you are asked to confirm it.",
}

ERROR_SCHEMA = {
    "type": "object",
    "description": "What there is instead when isError is true.",
    "properties": {
        "message": {"type": "string", "description": "What is wrong, and the remedy."},
        **ERROR_PROPERTIES,
    },
    "required": ["code", "message", "field"],
    "additionalProperties": False,
}
"""What is told of a command that did not run or failed."""


def tool_of(info: Mapping[str, Any]) -> Tool:
    """Return a command, as `list_commands` tells of it, as a tool.

    The schema of results allows errors as well: several clients check what came with an error,
    too, and would tell of a broken schema instead.
    """
    effect = Effect(info["effect"])
    result = inlined(json.loads(info["result_schema"]))
    definitions = result.pop("$defs", None)
    output: dict[str, Any] = {"type": "object", "anyOf": [result, ERROR_SCHEMA]}
    if definitions is not None:
        output["$defs"] = definitions
    return Tool(
        name=info["name"],
        title=info["name"].replace("_", " ").capitalize(),
        description=info["summary"] + _NEEDS[effect],
        input_schema=inlined(json.loads(info["arguments_schema"])),
        output_schema=output,
        annotations=ToolAnnotations(
            read_only_hint=effect is Effect.READ,
            destructive_hint=effect is Effect.DESTRUCTIVE,
            idempotent_hint=effect is Effect.READ,
            open_world_hint=False,
        ),
    )


def succeeded(values: dict[str, Any]) -> CallToolResult:
    """Return what a command answered; also as text, for clients that know nothing else.

    Raises:
        ValueError: It can not be said in JSON.
    """
    text = to_json(values).decode()
    return CallToolResult(content=[TextContent(text=text)], structured_content=values)


def failed(error: CommandError) -> CallToolResult:
    """Return why a command did not run or failed, so that a model can do better."""
    text = TextContent(text=f"{error.code}: {error.message}")
    return CallToolResult(content=[text], structured_content=error.told(), is_error=True)
