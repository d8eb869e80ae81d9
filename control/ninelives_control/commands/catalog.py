"""What can be asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.model import Page, Result, Text
from ninelives_control.paths import ANYWHERE, matches

if TYPE_CHECKING:
    from pydantic import BaseModel


class ListCommands(Page):
    """Which commands to return."""

    match: Text = Field(default=ANYWHERE, description="Pattern of their names, such as `list_*`.")


class CommandInfo(Result):
    """A command."""

    name: str = Field(description="Its name.")
    summary: str = Field(description="What it does.")
    effect: Effect = Field(description="What it does to what runs.")
    allowed: bool = Field(description="Whether you may use it, if not everywhere.")
    arguments_schema: str = Field(description="JSON schema of its arguments.")
    result_schema: str = Field(description="JSON schema of its result.")


class Commands(Result):
    """Commands, by name."""

    commands: list[CommandInfo] = Field(description="The commands on this page.")
    total: int = Field(description="How many there are on all pages.")


@command(Effect.READ)
def list_commands(arguments: ListCommands, context: Context) -> Commands:
    """List the commands with their arguments and results, and whether you may use them."""
    found = [entry for entry in context.commands if matches(arguments.match, entry.name)]
    return Commands(
        commands=[
            CommandInfo(
                name=entry.name,
                summary=entry.summary,
                effect=entry.effect,
                allowed=context.may(entry),
                arguments_schema=_schema(entry.arguments),
                result_schema=_schema(entry.result),
            )
            for entry in arguments.of(found)
        ],
        total=len(found),
    )


def _schema(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), separators=(",", ":"))
