"""Write events to OpenTelemetry: onto the span that is current, or as log records.

Never a span of its own: the client span belongs to whoever instruments gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.context import get_current

from ninelives_grpc.clock import wall_time
from ninelives_grpc.events import Severity
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from ninelives_grpc.events import Event

_SEVERITIES = {
    Severity.DEBUG: SeverityNumber.DEBUG,
    Severity.INFO: SeverityNumber.INFO,
    Severity.WARNING: SeverityNumber.WARN,
    Severity.ERROR: SeverityNumber.ERROR,
}


class SpanSink(Sink):
    """Adds each event to the current span, as `ninelives.<name>`; nothing when none is recorded.

    We make no spans of our own. With the OpenTelemetry instrumentation outside of us, a call has
    one CLIENT span, with the events of all its attempts in it; with the instrumentation inside, as
    the channel that is wrapped was traced already, each attempt has one.
    """

    def emit(self, event: Event) -> None:
        """Add one event."""
        span = trace.get_current_span()
        if span.is_recording():
            attributes = _attributes(event) | {"ninelives.why": event.why()}
            span.add_event(f"ninelives.{event.name}", attributes)


class OtelLogSink(Sink):
    """Writes each event as a log record, which belongs to the current trace.

    The application brings the SDK and its exporter; without it, nothing happens.
    """

    def __init__(self, provider: LoggerProvider | None = None, *, routine: bool = False) -> None:
        """Write to the global provider, or to another one."""
        self.routine = routine
        self._logger = get_logger("ninelives_grpc", logger_provider=provider)

    def emit(self, event: Event) -> None:
        """Write one record."""
        self._logger.emit(
            LogRecord(
                timestamp=int(wall_time(event.at) * 1e9),
                context=get_current(),
                severity_number=_SEVERITIES[event.severity],
                severity_text=event.severity.upper(),
                body=event.why(),
                attributes=_attributes(event),
                event_name=f"ninelives.{event.name}",
            )
        )


def _attributes(event: Event) -> dict[str, str | int | float | bool]:
    attributes = {
        f"ninelives.{name}": value for name, value in event.details().items() if value is not None
    }
    attributes["ninelives.stack"] = event.stack
    attributes["ninelives.policy"] = event.policy
    if event.reason:
        attributes["ninelives.reason"] = event.reason
    if event.attempt:
        attributes["ninelives.attempt"] = event.attempt
    if event.method:
        attributes["rpc.method"] = event.method
    return attributes
