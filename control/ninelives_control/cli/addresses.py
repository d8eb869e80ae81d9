"""Complete names and addresses, asking the control plane if that answers quickly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from ninelives_control.cli.connection import connection_of
from ninelives_control.cli.group import Failure
from ninelives_control.cli.remote import execute
from ninelives_control.model import MAX_PAGE, PARAMETER_PATTERN, POLICY_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

    Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_PATIENCE = 0.5
"""Seconds that somebody who has pressed a key waits at most."""
_BY_PATTERN = {
    PARAMETER_PATTERN: ("list_parameters", "parameters", "path"),
    POLICY_PATTERN: ("list_policies", "policies", "path"),
}
_BY_NAME = {"stack": ("list_stacks", "stacks", "name")}


def completing(name: str, schema: Mapping[str, Any]) -> Complete | None:
    """Return what completes an argument of that name and schema; None if nothing can."""
    fields = [schema, *schema.get("properties", {}).values()]
    patterns = [_BY_PATTERN[field["pattern"]] for field in fields if _known(field)]
    source = patterns[0] if patterns else _BY_NAME.get(name)
    if source is None:
        return None
    command, listed, key = source

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: Any = quickly(context, command).get(listed, ())
        return [
            CompletionItem(each[key], help=each.get("summary"))
            for each in found
            if each[key].startswith(incomplete)
        ]

    return complete


def quickly(context: click.Context, command: str) -> Mapping[str, Any]:
    """Return what a command that lists answers; nothing if it fails, or takes long."""
    try:
        connection = connection_of(context)
        patience = min(_PATIENCE, connection.timeout)
        return execute(
            command, {"limit": MAX_PAGE}, dataclasses.replace(connection, timeout=patience)
        )
    except Failure:
        return {}


def _known(field: Mapping[str, Any]) -> bool:
    return field.get("pattern") in _BY_PATTERN
