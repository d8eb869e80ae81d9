"""Make, list and remove tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ninelives_control import tokens
from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import show_table
from ninelives_control.identity import Role
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable


def _file_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--file",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        default="tokens.json",
        show_default=True,
        envvar="NINELIVES_TOKENS",
        help="The file of tokens, which the control plane is given.",
    )(function)


@click.group("token")
def cli() -> None:
    """Make, list and remove tokens, which say who somebody is."""


@cli.command("add")
@click.option("--name", required=True, help="Who gets it, as it will stand in the audit.")
@click.option(
    "--role",
    required=True,
    type=click.Choice([str(role) for role in Role]),
    help="What that may do.",
)
@_file_option
def add(name: str, role: str, path: Path) -> None:
    """Make a token and print it; it is not kept, and cannot be shown again."""
    try:
        token = tokens.add(path, name, Role(role))
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    click.echo(token)
    click.echo(f"{path} has its hash; the token itself is not kept, so keep it now", err=True)


@cli.command("list")
@_file_option
def list_tokens(path: Path) -> None:
    """List who has a token."""
    try:
        entries = tokens.read(path)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    if entries:
        show_table([entry.model_dump(mode="json", exclude={"sha256"}) for entry in entries])


@cli.command("remove")
@click.option("--name", required=True, help="Whose token to remove.")
@_file_option
def remove(name: str, path: Path) -> None:
    """Remove a token: from now on nobody knows it."""
    try:
        tokens.remove(path, name)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    except UnknownNameError as error:
        raise Failure(str(error), Exit.NOT_FOUND) from None
