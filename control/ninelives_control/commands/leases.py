"""Commands about values that were lent for a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, Proposal, Target, command
from ninelives_control.commands.changes import ParameterChanges, told
from ninelives_control.commands.findings import order_of
from ninelives_control.model import (
    Arguments,
    IdempotencyKey,
    Page,
    ParameterValue,
    Reason,
    Result,
    Text,
)
from ninelives_control.paths import ANYWHERE, matches
from ninelives_grpc.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence


class ListLeases(Page):
    """Which leases to return."""

    match: Text = Field(
        default=ANYWHERE, description="Pattern of the addresses lent, such as `payments/**`."
    )


class Loan(Result):
    """A parameter that was lent."""

    path: str = Field(description="Its address, `stack/policy/parameter`.")
    value: ParameterValue = Field(description="The value that was lent.")
    back: ParameterValue = Field(description="The value that returns.")


class Lease(Result):
    """What one command has lent."""

    id: str = Field(description="The id of that command.")
    holder: str = Field(description="Who issued it.")
    reason: str = Field(description="Why.")
    until: str = Field(description="When it ends, in RFC 3339.")
    loans: list[Loan] = Field(description="The parameters that have not been changed since.")


class ListedLeases(Result):
    """Leases, those that end first at first."""

    leases: list[Lease] = Field(description="The leases on this page.")
    total: int = Field(description="How many there are on all pages.")


class EndLease(Arguments):
    """Which lease to end."""

    id: Text = Field(description="The id of the command that took it.")
    reason: Reason = ""
    idempotency_key: IdempotencyKey = ""


def _everywhere(_arguments: ListLeases, _context: Context) -> Sequence[Target]:
    return (Target(path=""),)


@command(Effect.READ, targets=_everywhere)
def list_leases(arguments: ListLeases, context: Context) -> ListedLeases:
    """List what is lent, when it returns, and to what."""
    found = [
        lease
        for lease in context.changes.leases
        if any(matches(arguments.match, path) for path in lease.loans)
    ]
    return ListedLeases(
        leases=[
            Lease(
                id=lease.id,
                holder=lease.holder.name,
                reason=lease.reason,
                until=rfc3339(lease.until),
                loans=[
                    Loan(path=path, value=loan.value, back=loan.back)
                    for path, loan in lease.loans.items()
                ],
            )
            for lease in arguments.of(found)
        ],
        total=len(found),
    )


def _returning(arguments: EndLease, context: Context) -> Sequence[Proposal]:
    loans = context.changes.leases.get(arguments.id).loans
    return [Proposal(path=path, value=loan.back) for path, loan in loans.items()]


@command(Effect.CHANGE, targets=_returning)
def end_lease(arguments: EndLease, context: Context) -> ParameterChanges:
    """Have the old values of a lease return now."""
    return told(context.changes.end(arguments.id, order_of(arguments, context)), context)
