"""Make, list and remove tokens."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import show_table
from ninelives_control.identity import tokens
from ninelives_control.identity.identity import Role
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LONGEST = timedelta(days=3660)


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


class _Lifetime(click.ParamType[timedelta]):
    """How long: a number and a unit."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read one such as 8h."""
        number, unit = value[:-1], _UNITS.get(value[-1:])
        if unit is None or not (number.isascii() and number.isdigit()) or not int(number):
            self.fail(f"{value!r} is no duration; say 90s, 30m, 8h, 7d or 2w", param, ctx)
        try:
            lifetime = int(number) * unit
        except OverflowError:
            lifetime = timedelta.max
        if lifetime > _LONGEST:
            self.fail(f"{value!r} is too long; without --expires it is for ever", param, ctx)
        return lifetime


@cli.command("create")
@click.option(
    "--name",
    help="Who gets it, as it will stand in the audit; by default the role and a few letters.",
)
@click.option(
    "--role",
    required=True,
    type=click.Choice([str(role) for role in Role]),
    help="What that may do.",
)
@click.option(
    "--expires",
    type=_Lifetime(),
    help="How long it is a token, such as 30m, 8h or 7d; by default for ever.",
)
@_file_option
def create(name: str | None, role: str, expires: timedelta | None, path: Path) -> None:
    """Make a token and print it; it is not kept, and cannot be shown again."""
    name = f"{role}-{secrets.token_hex(3)}" if name is None else name
    try:
        token = tokens.create(path, name, Role(role), expires)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    click.echo(token)
    text = f"{path} has its hash, under the name {name}; the token is not kept, so keep it now"
    click.echo(text, err=True)


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
