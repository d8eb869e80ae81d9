"""Serve MCP to an agent, for a control plane that runs."""

from __future__ import annotations

import asyncio
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
        token = token_file.read_text(encoding="utf-8").strip()
    asyncio.run(serve(address, token, timeout))
