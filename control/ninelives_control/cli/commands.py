"""List the commands of a control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ninelives_control.cli.connection import connection_options
from ninelives_control.cli.remote import execute
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_control.model import MAX_PAGE

if TYPE_CHECKING:
    from ninelives_control.transports.grpc.connection import Connection

_COLUMNS = ("name", "effect", "allowed", "summary")


@click.command("commands")
@connection_options
@form_option
def cli(connection: Connection, form: str) -> None:
    """List the commands of a control plane, and whether you may use them."""
    answer = execute("list_commands", {"limit": MAX_PAGE}, connection)
    commands = answer["commands"]
    assert isinstance(commands, list)
    if form == Form.JSON:
        show(answer, form)
    else:
        show_table([{name: entry[name] for name in _COLUMNS} for entry in commands])
