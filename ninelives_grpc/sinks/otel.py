"""Write events onto the OpenTelemetry span that is current where they happen.

Never a span of its own: the client span belongs to whoever instruments gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event


class SpanSink(Sink):
    """Adds each event to the current span, as `ninelives.<name>`; nothing when none is recorded."""

    def emit(self, event: Event) -> None:
        """Add one event."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        attributes = {
            f"ninelives.{name}": value
            for name, value in event.details().items()
            if value is not None
        }
        attributes["ninelives.stack"] = event.stack
        attributes["ninelives.policy"] = event.policy
        if event.method:
            attributes["rpc.method"] = event.method
        span.add_event(f"ninelives.{event.name}", attributes)
