"""Run a command of a control plane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ninelives_control.cli.remote import connection_options, execute
from ninelives_control.cli.show import form_option, show

if TYPE_CHECKING:
    from pathlib import Path


@click.command("call")
@click.argument("command")
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@connection_options
@form_option
def cli(
    command: str,
    arguments: tuple[str, ...],
    address: str,
    token: str | None,
    token_file: Path | None,
    timeout: float,
    form: str,
) -> None:
    """Run COMMAND of a control plane with these arguments.

    A VALUE is read as JSON if it is that (5, true, null, "5"), and is a text otherwise.

    ninelives call set_parameter path=payments/retry/max_attempts value=5
    """
    answer = execute(
        command,
        _parsed(arguments),
        address=address,
        token=token,
        token_file=token_file,
        timeout=timeout,
    )
    show(answer, form)


def _parsed(arguments: tuple[str, ...]) -> dict[str, object]:
    parsed: dict[str, object] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            msg = f"{argument!r} is not of the form KEY=VALUE"
            raise click.UsageError(msg)
        if name in parsed:
            msg = f"{name} is given twice"
            raise click.UsageError(msg)
        parsed[name] = value_of(text)
    return parsed


def value_of(text: str) -> object:
    """Read a text as JSON, if it is that."""
    try:
        value: object = json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text
    return value


def _no_json(word: str) -> object:
    """Leave NaN and Infinity to be texts, as JSON has none of them."""
    raise ValueError(word)
