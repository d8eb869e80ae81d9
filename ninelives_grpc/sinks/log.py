"""Write events to the standard `logging`, or to structlog where an application uses that."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from ninelives_grpc.events import Severity
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event

_LEVELS = {
    Severity.DEBUG: logging.DEBUG,
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}


class LogSink(Sink):
    """Writes each event as one line, by its severity, with the reason why it came.

    The fields are attributes of the log record as well, `ninelives_<field>`, for structured logs.
    """

    def __init__(self, logger: logging.Logger | None = None, *, routine: bool = False) -> None:
        """Write to `logger`, by default `ninelives_grpc.events`."""
        self._logger = logger or logging.getLogger("ninelives_grpc.events")
        self.routine = routine

    def emit(self, event: Event) -> None:
        """Write one line."""
        level = _LEVELS[event.severity]
        if not self._logger.isEnabledFor(level):
            return
        where = "/".join(filter(None, (event.stack, event.policy)))
        about = f" {event.method}" if event.method else ""
        extra = {f"ninelives_{name}": value for name, value in _fields(event).items()}
        self._logger.log(level, "%s %s%s: %s", event.name, where, about, event.why(), extra=extra)


class StructlogSink(Sink):
    """Writes each event to structlog: its name as the event, its fields as keys and values."""

    def __init__(self, logger: Any = None, *, routine: bool = False) -> None:
        """Write to `logger`, by default structlog's own."""
        if logger is None:
            import structlog  # noqa: PLC0415 - only where it is used

            logger = structlog.get_logger("ninelives_grpc.events")
        self._logger = logger
        self.routine = routine

    def emit(self, event: Event) -> None:
        """Write one entry."""
        fields = _fields(event) | {"why": event.why()}
        del fields["event"]
        self._logger.log(_LEVELS[event.severity], event.name, **fields)


def log_sink(*, routine: bool = False) -> Sink:
    """Return the sink for the logs of this process: structlog's if configured, or `logging`'s.

    That is seen from whether the application has imported and configured structlog by now.
    """
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        return StructlogSink(routine=routine)
    return LogSink(routine=routine)


def _fields(event: Event) -> dict[str, Any]:
    common = {
        "event": event.name,
        "stack": event.stack,
        "policy": event.policy,
        "method": event.method,
        "attempt": event.attempt,
        "reason": event.reason,
    }
    return event.details() | common
