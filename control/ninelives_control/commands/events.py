"""What policies did lately."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Context, Effect, command
from ninelives_control.model import MAX_PAGE, Arguments, NamedValue, Result, Text, named
from ninelives_grpc.clock import wall_time

if TYPE_CHECKING:
    from ninelives_grpc.events import Event as Happened


class ListEvents(Arguments):
    """Which events to return."""

    stack: Text | None = Field(default=None, description="Name of the stack; all if not given.")
    policy: Text | None = Field(default=None, description="Name of the policy; all if not given.")
    event: Text | None = Field(
        default=None, description="Kind of event, such as CircuitOpened; all if not given."
    )
    after: int = Field(default=0, ge=0, description="Only those with a higher number.")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Events to return at most.")


class Event(Result):
    """Something a policy did."""

    number: int | None = Field(description="In the order in which they came; none in a watch.")
    time: str = Field(description="When, in RFC 3339, UTC.")
    name: str = Field(description="Which kind of event, such as CircuitOpened.")
    stack: str = Field(description="Name of the stack.")
    policy: str = Field(description="Name of the policy, empty for the stack itself.")
    method: str = Field(description="Name of the method, empty where no call is concerned.")
    details: list[NamedValue] = Field(description="What this kind of event tells besides.")


class Events(Result):
    """Events, oldest first."""

    events: list[Event] = Field(description="The first ones that fit.")
    last: int = Field(description="Pass it as `after` to go on from here.")
    more: bool = Field(description="Whether there are more of them already.")


@command(Effect.READ)
def list_events(arguments: ListEvents, context: Context) -> Events:
    """List what policies did lately, oldest first; good calls have no events of their own."""
    if arguments.stack is not None:
        context.registry.stack(arguments.stack)
    kept = context.events.numbered(arguments.after)
    found = [(number, event) for number, event in kept if _fits(event, arguments)]
    page = found[: arguments.limit]
    more = len(found) > len(page)
    passed = page if more else kept
    return Events(
        events=[event_of(event, number) for number, event in page],
        last=passed[-1][0] if passed else arguments.after,
        more=more,
    )


def event_of(event: Happened, number: int | None = None) -> Event:
    """Return an event in the form in which it is told."""
    at = datetime.fromtimestamp(wall_time(event.at), UTC)
    return Event(
        number=number,
        time=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        name=event.name,
        stack=event.stack,
        policy=event.policy,
        method=event.method,
        details=named(event.details()),
    )


def _fits(event: Happened, arguments: ListEvents) -> bool:
    return (
        arguments.stack in {None, event.stack}
        and arguments.policy in {None, event.policy}
        and arguments.event in {None, event.name}
    )
