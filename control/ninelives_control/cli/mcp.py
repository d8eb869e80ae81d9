"""Serve MCP to an agent, for a control plane that runs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from ninelives_control.cli.connection import connection_options

if TYPE_CHECKING:
    from ninelives_control.transports.grpc.connection import Connection


@click.command("mcp")
@connection_options
def cli(connection: Connection) -> None:
    """Serve MCP on standard input and output, as hosts of agents expect of what they start.

    Each command of the control plane is a tool. In the configuration of the host:

    {"command": "ninelives", "args": ["mcp"], "env": {"NINELIVES_TOKEN": "..."}}
    """
    from ninelives_control.transports.mcp.bridge import serve  # noqa: PLC0415 - slow to import

    # Nothing interrupts the thread that reads standard input: Ctrl-C would wait for its end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve(connection))
