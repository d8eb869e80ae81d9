"""An event that is only built when somebody looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninelives_grpc.events.event import Event


class Pending:
    """What an event is to be made of: a tenth of its cost on the path of a call.

    Attributes:
        kind: Which kind it is.
        fields: What it tells; of one that was built, those that events are counted by.
    """

    __slots__ = ("_event", "fields", "kind")

    def __init__(self, kind: type[Event], fields: dict[str, Any]) -> None:
        self.kind = kind
        self.fields = fields
        self._event: Event | None = None

    @property
    def event(self) -> Event:
        """The event, built once."""
        event = self._event
        if event is None:
            event = self._event = self.kind(**self.fields)
        return event


def built(event: Event) -> Pending:
    """Return an event that has been built in the form of one that has not."""
    counted = {
        "stack": event.stack,
        "policy": event.policy,
        "reason": event.reason,
        "at": event.at,
    }
    pending = Pending(type(event), counted)
    pending._event = event
    return pending
