"""Serve MCP to an agent, for a control plane that runs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from ninelives_control.cli.remote import connection_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command("mcp")
@connection_options
def cli(address: str, token: str | None, token_file: Path | None, timeout: float) -> None:
    """Serve MCP on standard input and output, as hosts of agents expect of what they start.

    Each command of the control plane at ADDRESS is a tool. In the configuration of the host:

    {"command": "ninelives", "args": ["mcp"], "env": {"NINELIVES_TOKEN": "..."}}
    """
    from ninelives_control.transports.mcp_bridge import serve  # noqa: PLC0415 - slow to import

    if token_file is not None:
        token = token_file.read_text(encoding="utf-8")
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()):
        raise click.UsageError("the token has characters that no token has; copy it again")
    # Nothing interrupts the thread that reads standard input: Ctrl-C would wait for its end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve(address, token, timeout))
