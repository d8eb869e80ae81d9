"""Say whether a file of rules allows something, and why, without a control plane."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ninelives_control.authorization.authorization import authorization_of
from ninelives_control.authorization.decision import Facts, Request
from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_control.cli.values import VALUE
from ninelives_control.command import CommandTable, Effect, Proposal, Target
from ninelives_control.commands import BUILT_IN
from ninelives_control.commands.authorization import explained_of
from ninelives_control.errors import CommandError
from ninelives_control.identity.identity import Identity, Proof, Role
from ninelives_grpc.errors import ConfigError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_control.model import ParameterValue


class _Value(click.ParamType["ParameterValue"]):
    name = "VALUE"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> ParameterValue:
        found = VALUE.convert(value, param, ctx)
        if found is None or isinstance(found, bool | int | float | str):
            return found
        return self.fail("must be a number, true, false, null or a text", param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "TIME"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return self.fail("must be a time such as 2026-11-27T14:02Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print_schema(context: click.Context, _: click.Parameter, asked: object) -> None:
    if not asked:
        return
    try:
        from ninelives_control.authorization.cedar import schema  # noqa: PLC0415 - may not be installed
    except MissingExtraError as error:
        raise Failure(str(error), Exit.FAILED) from None
    click.echo(schema(BUILT_IN), nl=False)
    context.exit()


@click.command("authorize")
@click.option(
    "--rules",
    type=click.Path(path_type=Path),
    help="File of rules, or of policies in Cedar; the default rules if not given.",
)
@click.option(
    "--role", required=True, type=click.Choice([str(role) for role in Role]), help="Role of whom."
)
@click.option("--command", "name", required=True, help="Name of the command.")
@click.option(
    "--effect",
    type=click.Choice([str(effect) for effect in Effect]),
    help="Effect of the command, if it is one of an application.",
)
@click.option("--path", default="", help="Address that it acts on.")
@click.option("--value", type=_Value(), multiple=True, help="Value for the parameter there.")
@click.option("--reason", default="", help="The reason that is given.")
@click.option("--declared", type=_Value(), multiple=True, help="What the parameter was declared.")
@click.option("--present", type=_Value(), multiple=True, help="What it is now; as declared.")
@click.option("--at", type=_Moment(), help="When, in UTC if it does not say; now.")
@click.option(
    "--cedar-schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the schema of policies in Cedar.",
)
@click.option("--explain", is_flag=True, help="Say what each rule says.")
@form_option
def cli(
    rules: Path | None,
    role: str,
    name: str,
    effect: str | None,
    path: str,
    value: tuple[ParameterValue, ...],
    reason: str,
    declared: tuple[ParameterValue, ...],
    present: tuple[ParameterValue, ...],
    at: datetime | None,
    form: str,
    *,
    explain: bool,
) -> int:
    """Say whether rules allow somebody a command, without a control plane.

    Ends with 0 if it is allowed, and with 4 if it is denied. A VALUE is read as JSON if it is that.

    ninelives authorize --rules rules.toml --role agent --command set_parameter
    --path shop/timeout/seconds --declared 2 --value 3 --explain
    """
    if value and not path:
        msg = "--value is for the parameter at an address: give --path"
        raise click.UsageError(msg)
    facts = Facts(
        declared=_given(declared, "--declared"),
        present=_given(present or declared, "--present"),
        below=lambda _: (),
        wall=lambda: at or datetime.now(UTC),
        now=time.monotonic,
    )
    target = Proposal(path=path, value=value[-1]) if value else Target(path=path)
    request = Request(
        identity=Identity(name="", role=Role(role), proof=Proof.TOKEN),
        command=name,
        effect=_effect(name) if effect is None else Effect(effect),
        targets=(target,) if path else (),
        reason=reason,
    )
    try:
        explanation = authorization_of(rules, facts, BUILT_IN).explain(request)
    except ConfigError as error:
        raise Failure(str(error), Exit.INVALID) from None
    except UnknownNameError as error:
        msg = f"a rule is about multiples of the value of {path}: give it by {error.name}"
        raise click.UsageError(msg) from None
    except MissingExtraError as error:
        raise Failure(str(error), Exit.FAILED) from None
    told = explained_of(explanation, Role(role)).model_dump(mode="json")
    if form == Form.JSON:
        show(told, form)
        return Exit.OK if told["allowed"] else Exit.DENIED
    if explain and told["findings"]:
        show_table(told["findings"])
    sentence = f"allowed by {told['rule']}" if told["allowed"] else f"denied: {told['sentence']}"
    click.echo(sentence)
    return Exit.OK if told["allowed"] else Exit.DENIED


def _effect(name: str) -> Effect:
    try:
        return CommandTable(BUILT_IN).get(name).effect
    except CommandError as error:
        msg = f"{error.message}, or say its --effect"
        raise click.UsageError(msg) from None


def _given(values: tuple[ParameterValue, ...], option: str) -> Callable[[str], ParameterValue]:
    def of(_: str) -> ParameterValue:
        if not values:
            raise UnknownNameError("option", option, ())
        return values[-1]

    return of
