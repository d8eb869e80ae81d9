"""Run a command of a control plane: each of them is a subcommand, made of its declaration."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ninelives_control.cli.addresses import quickly
from ninelives_control.cli.arguments import fields_of
from ninelives_control.cli.connection import connection_of, looking_ahead, settings
from ninelives_control.cli.group import Exit, Failure, Summaries
from ninelives_control.cli.remote import execute
from ninelives_control.cli.show import form_option, show
from ninelives_control.command import Effect
from ninelives_control.commands import BUILT_IN
from ninelives_control.model import MAX_PAGE
from ninelives_grpc.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_control.command import Command

_BUILT_IN = {entry.name: entry for entry in BUILT_IN}
_NEGATIVE = re.compile(r"-\d+(\.\d+)?([eE][+-]?\d+)?")
_UNDONE = "It can not be undone: you are asked to confirm it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What there is to know of a command to ask for it.

    Attributes:
        name: Its name.
        summary: What it does.
        effect: What it does to what runs.
        schema: JSON schema of its arguments.
    """

    name: str
    summary: str
    effect: Effect
    schema: dict[str, Any]


class Commands(Summaries):
    """The commands: those built in are known, others the control plane is asked for."""

    def summaries(self, ctx: click.Context) -> Mapping[str, str]:
        """Return those built in; where a shell completes, all."""
        found = {entry.name: entry.summary for entry in BUILT_IN}
        if ctx.resilient_parsing:
            more: Any = quickly(ctx, "list_commands").get("commands", ())
            found |= {info["name"]: info["summary"] for info in more}
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look for options about the connection first: it may take one to know the command."""
        if args[0] in _BUILT_IN:
            return super().resolve_command(ctx, args)
        with looking_ahead(ctx, args[1:]):
            return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the subcommand of that name.

        Raises:
            Failure: There is none, or the control plane can not be asked.
        """
        entry = _BUILT_IN.get(cmd_name)
        if entry is not None:
            return RemoteCommand(_declared(entry))
        if ctx.resilient_parsing:
            answer = quickly(ctx, "list_commands")
        else:
            answer = execute("list_commands", {"limit": MAX_PAGE}, connection_of(ctx))
        infos: Any = answer.get("commands", ())
        for info in infos:
            if info["name"] == cmd_name:
                return RemoteCommand(_told(info))
        if ctx.resilient_parsing:
            return None
        error = UnknownNameError("command", cmd_name, [info["name"] for info in infos])
        raise Failure(str(error), Exit.NOT_FOUND)


class RemoteCommand(click.Command):
    """Hands one command to the control plane, and prints what it answers."""

    def __init__(self, declared: Declared) -> None:
        """Make arguments and options of what is declared."""
        self._declared = declared
        self._fields = fields_of(declared.schema)
        own = [field.parameter for field in self._fields]
        taken = {name for parameter in own for name in parameter.opts + parameter.secondary_opts}
        destructive = declared.effect is Effect.DESTRUCTIVE
        said = f"{declared.summary} {_UNDONE}" if destructive else declared.summary
        super().__init__(
            declared.name,
            params=[*own, *(option for option in _options(declared) if _free(option, taken))],
            callback=self._run,
            help=said,
            short_help=declared.summary,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell negative numbers from options."""
        valued = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        before = ["", *args]
        return super().parse_args(
            ctx,
            [
                # JSON and numbers may begin with a space.
                f" {word}" if _NEGATIVE.fullmatch(word) and last not in valued else word
                for last, word in zip(before, args, strict=False)
            ],
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the arguments are as well."""
        rows = [
            (field.parameter.make_metavar(ctx), field.description + _bounds(field.parameter.type))
            for field in self._fields
            if isinstance(field.parameter, click.Argument)
        ]
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        super().format_options(ctx, formatter)

    def _run(self, form: str, *, yes: bool = False, **given: Any) -> None:
        context = click.get_current_context()
        arguments = {
            field.name: list(given[field.key])
            if isinstance(given[field.key], tuple)
            else given[field.key]
            for field in self._fields
            # The control plane knows the defaults.
            if context.get_parameter_source(field.key) is not ParameterSource.DEFAULT
        }
        connection = connection_of(context)
        if self._declared.effect is Effect.DESTRUCTIVE and not yes:
            _confirm(self._declared.name, connection.address)
        show(execute(self._declared.name, arguments, connection), form)


_HELP = """Run a command of a control plane.

A VALUE is read as JSON if it is that (5, true, null, "5"), and is a text otherwise.
Options about the connection may stand before the command or behind it; if the command has
an argument of that name, before it.

A change can be tried, lent for so many seconds, and taken back. What is exported can be applied,
there or to another process that has the same stacks.

\b
ninelives call set_parameter payments/retry/max_attempts 5 --dry-run
ninelives call set_parameter payments/retry/max_attempts 5 --lease 600 --reason "calm down"
ninelives call undo_change ID
ninelives call export_parameters -o json > night.json
ninelives call apply_parameters @night.json
"""


@click.group(
    "call",
    cls=Commands,
    params=[*settings()],
    help=_HELP,
    epilog="Commands that an application has added are run in the same way; `ninelives commands` "
    "lists them too.",
)
def cli() -> None:
    """Run a command of a control plane."""


def _declared(entry: Command[Any, Any]) -> Declared:
    return Declared(
        name=entry.name,
        summary=entry.summary,
        effect=entry.effect,
        schema=entry.arguments.model_json_schema(),
    )


def _told(info: Mapping[str, Any]) -> Declared:
    return Declared(
        name=info["name"],
        summary=info["summary"],
        effect=Effect(info["effect"]),
        schema=json.loads(info["arguments_schema"]),
    )


def _options(declared: Declared) -> list[click.Option]:
    @form_option
    def options() -> None:
        pass

    found: list[click.Option] = [*settings(), *getattr(options, "__click_params__", ())]
    if declared.effect is Effect.DESTRUCTIVE:
        found.append(
            click.Option(
                ["-y", "--yes"], is_flag=True, help="Do it without being asked to confirm."
            )
        )
    return found


def _free(option: click.Option, taken: set[str]) -> bool:
    """Leave out the names that the command has for its arguments, and say whether any is left."""
    option.opts = [name for name in option.opts if name not in taken]
    return bool(option.opts)


def _bounds(kind: click.ParamType[Any]) -> str:
    if isinstance(kind, click.IntRange | click.FloatRange):
        return f"  [{kind._describe_range()}]"
    return ""


def _confirm(name: str, address: str) -> None:
    if not sys.stdin.isatty():
        text = f"{name} can not be undone; confirm it by --yes, as there is no terminal to ask on"
        raise Failure(text, Exit.INVALID)
    if not click.confirm(f"{name} can not be undone. Run it at {address}?", err=True):
        raise Failure("it was not confirmed, and nothing was done", Exit.FAILED)
