"""Verify and read the audit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ninelives_control.audit import AuditFile
from ninelives_control.chain import Anchor
from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show_table
from ninelives_control.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable

_COLUMNS = ("seq", "time", "identity", "command", "status", "old", "new", "reason", "arguments")


class _AnchorType(click.ParamType[Anchor]):
    name = "SEQ:HASH"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Anchor:
        try:
            return Anchor.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _file_options(function: Callable[..., None]) -> Callable[..., None]:
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.argument("file", type=file)(function)


@click.group("audit")
def cli() -> None:
    """Verify and read the audit, in which every command is written down."""


@cli.command("verify")
@_file_options
@click.option("--anchor", type=_AnchorType(), help="A row that is known to have been there.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds the secret it was sealed with.",
)
def verify(file: Path, anchor: Anchor | None, key_file: Path | None) -> None:
    """Walk along the chain of FILE, and name the first row that does not fit."""
    key = None if key_file is None else key_file.read_bytes()
    try:
        found = AuditFile(file, key=key).verify(anchor=anchor)
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None
    if found.finding is not None:
        raise Failure(f"{file}: {found.finding.message}", Exit.FAILED)
    if found.head is None:
        click.echo("ok: it is empty")
        return
    click.echo(f"ok: {found.head.seq} rows; anchor {found.head}")
    for unfinished in found.unfinished:
        click.echo(f"no outcome is known of the command {unfinished}")


@cli.command("list")
@_file_options
@click.option("--after", default=0, help="Leave out entries up to that number.")
@click.option("--limit", default=100, show_default=True, help="Entries to print at most.")
@form_option
def list_entries(file: Path, after: int, limit: int, form: str) -> None:
    """Print the entries of FILE, one a command, oldest first."""
    try:
        entries = AuditFile(file).entries(after=after, limit=limit)
    except AuditError as error:
        raise Failure(str(error), Exit.FAILED) from None
    rows = [dataclasses.asdict(entry) for entry in entries]
    if form == Form.JSON:
        whole = [row | {"arguments": json.loads(row["arguments"])} for row in rows]
        click.echo(json.dumps(whole, indent=2))
    elif rows:
        show_table([{name: row[name] for name in _COLUMNS} for row in rows])
