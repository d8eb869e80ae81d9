"""Put a sink behind a stack of its own: what protects calls protects their telemetry as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.errors import Refused
from ninelives_grpc.registry import Registry
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event
    from ninelives_grpc.stacks.algebra import Expression
    from ninelives_grpc.stacks.stack import Stack


class ProtectedSink(Sink):
    """Hands events on through a stack: retried, broken off, limited as that says.

    A retry waits, so it belongs behind a `NonBlockingSink`.

    Attributes:
        stack: The stack. It is in a registry of its own: what happens to it is not told to the
            sinks of others, this one among them.
        dropped: Events that the stack refused.
    """

    def __init__(self, sink: Sink, expression: Expression, *, name: str = "sink") -> None:
        """Put `sink` behind policies.

        Raises:
            ConfigError: The policies do not go together.
        """
        from ninelives_grpc.stacks.stack import Stack  # noqa: PLC0415 - which has sinks itself

        self.dropped = 0
        self.routine = sink.routine
        self.stack: Stack = Stack(name, expression, registry=Registry())
        self._sink = sink

    def emit(self, event: Event) -> None:
        """Hand the event on.

        Raises:
            Refused: The stack said no.
            Exception: What the sink raised at the last attempt.
        """
        try:
            self.stack.call(self._sink.emit, event)
        except Refused:
            self.dropped += 1
            raise

    def close(self) -> None:
        """Close the sink behind."""
        self._sink.close()
