"""What policies did lately."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ninelives_control.command import Context, Effect, command
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import MAX_PAGE, Arguments, NamedValue, Result, Text, named
from ninelives_grpc.clock import rfc3339, wall_moment, wall_time
from ninelives_grpc.errors import UnknownNameError
from ninelives_grpc.events import KINDS, Severity

if TYPE_CHECKING:
    from ninelives_grpc.events import Event as Happened

MAX_KINDS = 50
_DIGITS = 18
"""No number of an event has more."""


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError("moment", "must be a time such as 2026-11-27T14:02:11Z")
    return text


Moment = Annotated[Text, AfterValidator(_moment), Field(json_schema_extra={"format": "date-time"})]
"""A time in RFC 3339, with its time zone."""


class EventFilter(Arguments):
    """Which events are meant."""

    stack: Text | None = Field(default=None, description="Name of the stack; all if not given.")
    policy: Text | None = Field(default=None, description="Name of the policy; all if not given.")
    method: Text | None = Field(default=None, description="Name of the method; all if not given.")
    kinds: list[Text] = Field(
        default=[],
        max_length=MAX_KINDS,
        description="Kinds of events, such as CircuitOpened; all if none is given.",
    )
    severity: Severity = Field(
        default=Severity.DEBUG, description="Only those that matter so much, or more."
    )

    def check(self, context: Context) -> None:
        """See that there is what the filter names.

        Raises:
            UnknownNameError: There is none; suggests the nearest.
        """
        if self.stack is not None:
            context.registry.stack(self.stack)
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownNameError("kind of event", kind, KINDS)

    def fits(self, event: Happened) -> bool:
        """Tell whether an event is meant."""
        return (
            self.stack in {None, event.stack}
            and self.policy in {None, event.policy}
            and self.method in {None, event.method}
            and (not self.kinds or event.name in self.kinds)
            and event.severity.rank >= self.severity.rank
        )


class ListEvents(EventFilter):
    """Which events to return."""

    since: Moment | None = Field(
        default=None, description="Only those since then, in RFC 3339; all that are kept."
    )
    until: Moment | None = Field(
        default=None, description="Only those before then, in RFC 3339; up to now."
    )
    cursor: Text = Field(
        default="",
        description="Only those after it: the `cursor` of the page before.",
        json_schema_extra={"pattern": "^([0-9a-f]{8}-[0-9]{1,18})?$"},
    )
    limit: int = Field(default=100, ge=1, le=MAX_PAGE, description="Events to return at most.")


class Event(Result):
    """Something a policy did."""

    number: int | None = Field(description="In the order in which they came; none in a watch.")
    time: str = Field(description="When, in RFC 3339, UTC.")
    name: str = Field(description="Which kind of event, such as CircuitOpened.")
    severity: Severity = Field(description="How much it matters.")
    stack: str = Field(description="Name of the stack.")
    policy: str = Field(description="Name of the policy, empty for the stack itself.")
    method: str = Field(description="Name of the method, empty where no call is concerned.")
    attempt: int = Field(description="Which attempt of the call, from 1; 0 if none.")
    reason: str = Field(description="Why, in one word; empty where there is no choice.")
    why: str = Field(description="Why, in a sentence, with the numbers.")
    details: list[NamedValue] = Field(description="What this kind of event tells besides.")


class Events(Result):
    """Events, oldest first."""

    events: list[Event] = Field(description="The first ones that fit.")
    cursor: str = Field(description="Pass it as `cursor` to go on from here.")
    more: bool = Field(description="Whether there are more of them already.")


@command(Effect.READ)
def list_events(arguments: ListEvents, context: Context) -> Events:
    """List what policies did lately, oldest first; good calls have no events of their own."""
    arguments.check(context)
    since, until = _seconds(arguments.since), _seconds(arguments.until)
    life = context.events.life
    after = _number(arguments.cursor, life)
    kept = context.events.numbered(after)
    found = [
        (number, event)
        for number, event in kept
        if arguments.fits(event)
        and (since is None or wall_time(event.at) >= since)
        and (until is None or wall_time(event.at) < until)
    ]
    page = found[: arguments.limit]
    more = len(found) > len(page)
    passed = page if more else kept
    last = passed[-1][0] if passed else after
    return Events(
        events=[event_of(event, number) for number, event in page],
        cursor=f"{life}-{last}",
        more=more,
    )


def event_of(event: Happened, number: int | None = None) -> Event:
    """Return an event in the form in which it is told."""
    (why,) = named({"why": event.why()})
    return Event(
        number=number,
        time=rfc3339(wall_moment(event.at)),
        name=event.name,
        severity=event.severity,
        stack=event.stack,
        policy=event.policy,
        method=event.method,
        attempt=event.attempt,
        reason=event.reason,
        why=str(why.value),
        details=named(event.details()),
    )


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _number(cursor: str, life: str) -> int:
    """Return the number of the event at a cursor.

    Raises:
        CommandError: It is none, or of a control plane that has ended.
    """
    if not cursor:
        return 0
    of, _, number = cursor.partition("-")
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS):
        message = "cursor must be one that list_events has returned"
        raise CommandError(Code.INVALID_ARGUMENT, message, field="cursor")
    if of != life:
        message = (
            "cursor is of another life of the control plane, whose events are gone; "
            "leave it out to begin with those that are kept now"
        )
        raise CommandError(Code.CONFLICT, message, field="cursor")
    return int(number)
