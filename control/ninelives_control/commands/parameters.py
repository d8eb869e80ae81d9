"""Commands about parameters: find them, read them, change them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.commands.findings import Finding, findings_of, moment, order_of
from ninelives_control.model import (
    Arguments,
    IdempotencyKey,
    Lease,
    Page,
    ParameterPath,
    ParameterValue,
    Reason,
    Result,
    Text,
)
from ninelives_control.paths import ANYWHERE, matches

if TYPE_CHECKING:
    from ninelives_grpc.policies.policy import Live


class ParameterType(StrEnum):
    """What kind of value a parameter holds."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    CHOICE = "choice"


class Parameter(Result):
    """A parameter, its value now, and what is allowed."""

    path: str = Field(description="Its address, `stack/policy/parameter`.")
    value: ParameterValue = Field(description="Its value now.")
    declared: ParameterValue = Field(description="The value it was declared with.")
    type: ParameterType = Field(description="What kind of value it holds.")
    optional: bool = Field(description="Whether null is allowed as well.")
    minimum: float | None = Field(description="Smallest number allowed.")
    maximum: float | None = Field(description="Largest number allowed.")
    choices: list[str] = Field(description="The words allowed, when it is a choice.")
    unit: str = Field(description="What it counts, such as seconds.")
    summary: str = Field(description="What it is.")
    revision: int = Field(description="How often its policy was changed, starting with 1.")


class ListParameters(Page):
    """Which parameters to return."""

    stack: Text | None = Field(default=None, description="Name of their stack; all if not given.")
    policy: Text | None = Field(default=None, description="Name of their policy; all if not given.")
    match: Text = Field(
        default=ANYWHERE, description="Pattern of their addresses, such as `*/retry/*`."
    )


class Parameters(Result):
    """Parameters, by stack and policy."""

    parameters: list[Parameter] = Field(description="The parameters on this page.")
    total: int = Field(description="How many there are on all pages.")


class GetParameter(Arguments):
    """Which parameter to return."""

    path: ParameterPath = Field(description="Its address, `stack/policy/parameter`.")


class SetParameter(Arguments):
    """Which parameter to change, and how."""

    path: ParameterPath = Field(description="Its address, `stack/policy/parameter`.")
    value: ParameterValue = Field(description="Its new value.")
    expected_revision: int | None = Field(
        default=None, ge=1, description="Change it only if its policy is at this revision still."
    )
    dry_run: bool = Field(default=False, description="Check only, and change nothing.")
    reason: Reason = ""
    lease: Lease = None
    idempotency_key: IdempotencyKey = ""


class ParameterChange(Result):
    """A parameter that was changed, or would be."""

    path: str = Field(description="Its address, `stack/policy/parameter`.")
    old: ParameterValue = Field(description="Its value before.")
    new: ParameterValue = Field(description="Its value after.")
    revision: int = Field(description="The revision of its policy after.")
    dry_run: bool = Field(description="Whether nothing was changed, as asked for.")
    id: str = Field(description="The id of this change, for undo_change and end_lease.")
    until: str | None = Field(description="When its lease ends, in RFC 3339; null without one.")
    findings: list[Finding] = Field(description="What the linter thinks of its stack then.")


@command(Effect.READ)
def list_parameters(arguments: ListParameters, context: Context) -> Parameters:
    """List parameters with their values and what is allowed."""
    stacks = context.stacks(arguments.stack)
    if arguments.stack is not None and arguments.policy is not None:
        stacks[0].policy(arguments.policy)
    found = [
        (f"{stack.name}/{policy}/{name}", live)
        for stack in stacks
        for policy, live in stack.policies.items()
        if arguments.policy in {None, policy}
        for name in live.specs
        if matches(arguments.match, f"{stack.name}/{policy}/{name}")
    ]
    return Parameters(
        parameters=[parameter_of(path, live) for path, live in arguments.of(found)],
        total=len(found),
    )


@command(Effect.READ)
def get_parameter(arguments: GetParameter, context: Context) -> Parameter:
    """Return one parameter with its value and what is allowed."""
    policy, _, name = arguments.path.rpartition("/")
    live = context.registry.policy(policy)
    live.parameter(name)
    return parameter_of(arguments.path, live)


@command(Effect.CHANGE)
def set_parameter(arguments: SetParameter, context: Context) -> ParameterChange:
    """Change a parameter for all calls that start from now on; what runs and what is known stay."""
    policy = arguments.path.rpartition("/")[0]
    expected = arguments.expected_revision
    made = context.changes.make(
        {arguments.path: arguments.value},
        order_of(arguments, context),
        {} if expected is None else {policy: expected},
    )
    (change,) = made.changes
    return ParameterChange(
        path=arguments.path,
        old=change.old,
        new=change.new,
        revision=change.revision,
        dry_run=arguments.dry_run,
        id=context.id,
        until=moment(made.until),
        findings=findings_of(made),
    )


def parameter_of(path: str, live: Live[Any]) -> Parameter:
    """Return what there is to say of the parameter at an address, which has its policy running."""
    spec = live.specs[path.rpartition("/")[2]]
    # Before the value, so that nobody expects the revision of a change that he has not seen.
    revision = live.revision
    return Parameter(
        path=path,
        value=getattr(live.policy, spec.name),
        declared=getattr(live.declared, spec.name),
        type=ParameterType(spec.type_name),
        optional=spec.optional,
        minimum=spec.low,
        maximum=spec.high,
        choices=list(spec.choices),
        unit=spec.unit,
        summary=spec.doc,
        revision=revision,
    )
