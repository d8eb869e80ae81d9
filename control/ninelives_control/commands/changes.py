"""Commands that change many parameters at once, or take a change back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from ninelives_control.audit.entries import changes_of
from ninelives_control.command import Context, Effect, Proposal, command
from ninelives_control.commands.findings import Finding, findings_of, moment, order_of
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import (
    Arguments,
    IdempotencyKey,
    Lease,
    ParameterPath,
    ParameterValue,
    Reason,
    Result,
    Text,
)
from ninelives_control.paths import ANYWHERE, matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_control.audit.entries import ValueChange
    from ninelives_control.changes.changes import Made

MAX_CHANGES = 1000
"""Parameters that can be changed at once."""
_FORCE = "force_circuit_breaker"
_SLASHES = 2
"""In the address of a parameter."""


class WantedValue(Arguments):
    """A parameter, and the value that it is to have."""

    path: ParameterPath = Field(description="Its address, `stack/policy/parameter`.")
    value: ParameterValue = Field(description="Its new value.")
    expected_revision: int | None = Field(
        default=None, ge=1, description="Change all only if its policy is at this revision still."
    )


class ApplyParameters(Arguments):
    """Which parameters to change, and how."""

    changes: Annotated[list[WantedValue], Field(min_length=1, max_length=MAX_CHANGES)] = Field(
        description="The parameters and their new values, of any stacks; each of them once."
    )
    dry_run: bool = Field(default=False, description="Check only, and change nothing.")
    reason: Reason = ""
    lease: Lease = None
    idempotency_key: IdempotencyKey = ""


class ChangedValue(Result):
    """A parameter that was changed, or would be."""

    path: str = Field(description="Its address, `stack/policy/parameter`.")
    old: ParameterValue = Field(description="Its value before.")
    new: ParameterValue = Field(description="Its value after.")
    revision: int = Field(description="The revision of its policy after.")


class ParameterChanges(Result):
    """Parameters that were changed together, or would be."""

    changes: list[ChangedValue] = Field(description="The parameters.")
    dry_run: bool = Field(description="Whether nothing was changed, as asked for.")
    id: str = Field(description="The id of this change, for undo_change and end_lease.")
    until: str | None = Field(description="When their lease ends, in RFC 3339; null without one.")
    findings: list[Finding] = Field(description="What the linter thinks of their stacks then.")

    @property
    def old(self) -> dict[str, ParameterValue]:
        """The values before, by address."""
        return {change.path: change.old for change in self.changes}

    @property
    def new(self) -> dict[str, ParameterValue]:
        """The values after, by address."""
        return {change.path: change.new for change in self.changes}


class ExportParameters(Arguments):
    """Which parameters to export."""

    match: Text = Field(
        default=ANYWHERE, description="Pattern of their addresses, such as `payments/**`."
    )
    only_changed: bool = Field(
        default=False, description="Leave out those that have the value they were declared with."
    )


class ExportedValue(Result):
    """A parameter and its value."""

    path: str = Field(description="Its address, `stack/policy/parameter`.")
    value: ParameterValue = Field(description="Its value; the one before it, while it is lent.")


class ExportedParameters(Result):
    """Parameters, in the form in which apply_parameters takes them."""

    changes: list[ExportedValue] = Field(description="The parameters and their values.")


class UndoChange(Arguments):
    """Which change to take back."""

    id: Text = Field(description="The id of the command that made it, as in its result or audit.")
    dry_run: bool = Field(default=False, description="Check only, and change nothing.")
    reason: Reason = ""
    idempotency_key: IdempotencyKey = ""


def _proposals(arguments: ApplyParameters, _context: Context) -> Sequence[Proposal]:
    return [Proposal(path=change.path, value=change.value) for change in arguments.changes]


@command(Effect.CHANGE, targets=_proposals)
def apply_parameters(arguments: ApplyParameters, context: Context) -> ParameterChanges:
    """Change several parameters, of any stacks: all of them, or none."""
    values: dict[str, ParameterValue] = {}
    expected: dict[str, int] = {}
    for change in arguments.changes:
        policy = change.path.rpartition("/")[0]
        if change.path in values:
            message = f"{change.path} is there twice; give it one value"
            raise CommandError(Code.INVALID_ARGUMENT, message, field="changes")
        values[change.path] = change.value
        if change.expected_revision is None:
            continue
        if expected.setdefault(policy, change.expected_revision) != change.expected_revision:
            message = f"{policy} is expected at two revisions; it has one"
            raise CommandError(Code.INVALID_ARGUMENT, message, field="changes")
    made = context.changes.make(values, order_of(arguments, context), expected)
    return told(made, context, dry_run=arguments.dry_run)


@command(Effect.READ)
def export_parameters(arguments: ExportParameters, context: Context) -> ExportedParameters:
    """Return the values of parameters, to be kept and given to apply_parameters later."""
    found = [
        ExportedValue(path=path, value=value)
        for stack in context.registry
        for policy, live in stack.policies.items()
        for name in live.specs
        if matches(arguments.match, path := f"{stack.name}/{policy}/{name}")
        if (value := context.changes.lasting(path)) != getattr(live.declared, name)
        or not arguments.only_changed
    ]
    if len(found) > MAX_CHANGES:
        message = f"there are {len(found)}, and {MAX_CHANGES} at most go into one export; "
        message += "export fewer stacks at a time by match"
        raise CommandError(Code.INVALID_ARGUMENT, message, field="match")
    return ExportedParameters(changes=found)


def _takes_back(arguments: UndoChange, context: Context) -> Sequence[Proposal]:
    changes = _undoable(arguments.id, context)
    return [Proposal(path=path, value=value) for path, (value, _) in changes.items()]


@command(Effect.CHANGE, targets=_takes_back)
def undo_change(arguments: UndoChange, context: Context) -> ParameterChanges:
    """Take back what a command has changed, if it has not been changed again since."""
    changes = _undoable(arguments.id, context)
    revisions: dict[str, int] = {}
    for path, (_, new) in changes.items():
        parameter = context.registry.parameter(path)
        # Before the value: one that is changed after it was looked at is at another revision.
        revision = revisions.setdefault(path.rpartition("/")[0], parameter.revision)
        now = parameter.get()
        if now != new:
            message = f"{path} is {json.dumps(now)} by now, and not {json.dumps(new)} as "
            message += f"{arguments.id} left it; undo what came after it first, or set it anew"
            raise CommandError(Code.CONFLICT, message, field="id", revision=revision)
    values = {path: old for path, (old, _) in changes.items()}
    made = context.changes.make(values, order_of(arguments, context), revisions)
    return told(made, context, dry_run=arguments.dry_run)


def _undoable(key: str, context: Context) -> dict[str, tuple[ParameterValue, ParameterValue]]:
    """Return the value to return to and the present one of what a command has changed, by address.

    What it has lent returns to what it would at the end of the lease.

    Raises:
        UnknownNameError: There is no such command in the audit.
        CommandError: `invalid_argument`: it has changed no parameter.
    """
    entry = context.audit.entry(key)
    loans = context.changes.leases.loans(key)
    found = {
        # What a circuit breaker was forced to be is its mode.
        f"{change.path}/mode" if entry.command == _FORCE else change.path: _values(change)
        for change in changes_of(entry)
        if change.old != change.new
    }
    if not found or any(path.count("/") != _SLASHES for path in found):
        message = f"{entry.command} ({entry.status}) of {entry.time} has changed no parameter"
        raise CommandError(Code.INVALID_ARGUMENT, message, field="id")
    returning = {path: (loan.back, loan.value) for path, loan in loans.items() if path in found}
    return found | returning


def _values(change: ValueChange) -> tuple[ParameterValue, ParameterValue]:
    return cast("ParameterValue", change.old), cast("ParameterValue", change.new)


def told(made: Made, context: Context, *, dry_run: bool = False) -> ParameterChanges:
    """Return what was changed, as it is told."""
    return ParameterChanges(
        changes=[
            ChangedValue(path=change.path, old=change.old, new=change.new, revision=change.revision)
            for change in made.changes
        ],
        dry_run=dry_run,
        id=context.id,
        until=moment(made.until),
        findings=findings_of(made),
    )
