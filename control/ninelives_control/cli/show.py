"""Print what a command answered: as JSON, or for people."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

R = TypeVar("R")

_WIDEST = 48
_FIRST = ("number", "time", "name", "path", "stack", "policy", "method", "value", "old", "new")
_LAST = ("values", "details", "traffic", "summary")


class Form(StrEnum):
    """How to print."""

    JSON = "json"
    TABLE = "table"


def form_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add `-o json|table` to a subcommand."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([str(form) for form in Form]),
        default=str(Form.TABLE),
        show_default=True,
        envvar="NINELIVES_OUTPUT",
        help="How to print the answer.",
    )(function)


def show(data: Mapping[str, object], form: str) -> None:
    """Print an answer."""
    if form == Form.JSON:
        click.echo(json.dumps(_ordered(data), indent=2))
    else:
        _show(data, "")


def show_table(rows: Sequence[Mapping[str, object]], margin: str = "") -> None:
    """Print rows with aligned columns, the last of them as long as it is."""
    columns = list(rows[0])
    lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    lines = [[*(_cut(cell) for cell in line[:-1]), line[-1]] for line in lines]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(margin + "  ".join(cells).rstrip())


def _show(data: Mapping[str, object], margin: str) -> None:
    """Print plain fields one a line, and then the lists of things."""
    data = {name: data[name] for name in sorted(data, key=_rank)}
    lists = {name: _things(value) for name, value in data.items() if _things(value)}
    plain = {name: value for name, value in data.items() if name not in lists}
    width = max((len(name) for name in plain), default=0)
    for name, value in plain.items():
        click.echo(f"{margin}{name:{width}}  {_cell(value)}".rstrip())
    for name, things in lists.items():
        click.echo(f"\n{margin}{name}")
        if all(not _things(value) or _named(value) for row in things for value in row.values()):
            columns = sorted(things[0], key=_rank)
            show_table([{column: row[column] for column in columns} for row in things], margin)
        else:
            for thing in things:
                _show(thing, f"{margin}  ")


def _things(value: object) -> Sequence[Mapping[str, object]]:
    """Return a list of objects; what is something else has none."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    return ()


def _named(value: object) -> bool:
    """Tell whether a list has entries of name and value only, which fit a cell."""
    return all(thing.keys() == {"name", "value"} for thing in _things(value))


def _cell(value: object) -> str:  # noqa: PLR0911 - one return a type
    """Say a value in few words; an entry of name and value as `name=value`."""
    match value:
        case None:
            return "-"
        case str():
            return value if value.isprintable() else repr(value)
        case list():
            return " ".join(_cell(item) for item in value)
        case {"name": str(name), "value": inner, **rest} if not rest:
            return f"{name}={_cell(inner)}"
        case dict():
            return " ".join(f"{name}={_cell(value[name])}" for name in sorted(value, key=_rank))
        case float():
            return f"{value:.6g}"
        case _:
            return json.dumps(value)


def _cut(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 1]}…"


def _rank(name: str) -> tuple[int, str]:
    """Bring names into an order that is easy to read; protobuf keeps none."""
    if name in _FIRST:
        return _FIRST.index(name), name
    return len(_FIRST) + (1 + _LAST.index(name) if name in _LAST else 0), name


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value, key=_rank)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value
