"""Write events to the standard `logging`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ninelives_grpc import events
from ninelives_grpc.sinks.sink import Sink

if TYPE_CHECKING:
    from ninelives_grpc.events import Event

_WARNINGS = (
    events.CircuitOpened,
    events.RetryExhausted,
    events.ProbeReclaimed,
    events.BulkheadRefused,
    events.RateLimitRefused,
    events.CircuitRefused,
    events.RequestFailed,
)


class LogSink(Sink):
    """Writes each event as one line: trouble as WARNING, the rest as INFO, routine as DEBUG.

    The fields are attributes of the log record as well, `ninelives_<field>`, for structured logs.
    """

    def __init__(self, logger: logging.Logger | None = None, *, routine: bool = False) -> None:
        """Write to `logger`, by default `ninelives_grpc.events`."""
        self._logger = logger or logging.getLogger("ninelives_grpc.events")
        self.routine = routine

    def emit(self, event: Event) -> None:
        """Write one line."""
        level = logging.WARNING if isinstance(event, _WARNINGS) else logging.INFO
        if event.routine:
            level = logging.DEBUG
        if not self._logger.isEnabledFor(level):
            return
        details = event.details()
        where = "/".join(filter(None, (event.stack, event.policy)))
        text = " ".join(f"{name}={_short(value)}" for name, value in details.items())
        extra = {f"ninelives_{name}": value for name, value in details.items()}
        extra |= {
            "ninelives_event": event.name,
            "ninelives_stack": event.stack,
            "ninelives_policy": event.policy,
            "ninelives_method": event.method,
        }
        about = f" {event.method}" if event.method else ""
        self._logger.log(level, "%s %s%s %s", event.name, where, about, text, extra=extra)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
