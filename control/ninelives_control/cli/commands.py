"""List the commands of a control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ninelives_control.cli.remote import connection_options, execute
from ninelives_control.cli.show import Form, form_option, show, show_table

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("name", "effect", "allowed", "summary")


@click.command("commands")
@connection_options
@form_option
def cli(
    address: str, token: str | None, token_file: Path | None, timeout: float, form: str
) -> None:
    """List the commands of a control plane, and whether you may use them."""
    answer = execute(
        "list_commands",
        {"limit": 1000},
        address=address,
        token=token,
        token_file=token_file,
        timeout=timeout,
    )
    commands = answer["commands"]
    assert isinstance(commands, list)
    if form == Form.JSON:
        show(answer, form)
    else:
        show_table([{name: entry[name] for name in _COLUMNS} for entry in commands])
