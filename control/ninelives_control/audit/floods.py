"""One row a second for each caller that asks too often, in place of one for each attempt."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ninelives_control.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_control.audit.log import Attempt
    from ninelives_grpc.clock import Clock

_SECOND = 1.0
_MOST_CALLERS = 100
"""Callers that are told apart at a time; the rest have rows together."""
_REST = ""


@dataclass(slots=True)
class _Flood:
    ends: float
    last: Attempt
    count: int = 0


class Floods:
    """Counts attempts that were refused as there were too many of them.

    The first of a caller is written down at once. Those of the second after it are counted, and
    become one row once that is over and anybody asks for anything, or the control plane stops.
    Such a row is the last of them, with `{"attempts": N}` for its arguments.

    Args:
        write: Writes down an attempt.
        clock: What tells the time.
    """

    def __init__(self, write: Callable[[Attempt], object], clock: Clock) -> None:
        """Begin without any."""
        self._write = write
        self._clock = clock
        self._floods: dict[str, _Flood] = {}
        self._lock = threading.Lock()

    def refused(self, key: str, attempt: Attempt) -> None:
        """Write down an attempt of a caller, or count it.

        Raises:
            CommandError: `audit_unavailable`: it was to be written down, and could not be.
        """
        now = self._clock.now()
        with self._lock:
            if key not in self._floods and len(self._floods) >= _MOST_CALLERS:
                key = _REST
            flood = self._floods.get(key)
            if flood is None:
                self._floods[key] = _Flood(now + _SECOND, attempt)
            else:
                flood.last = attempt
                flood.count += 1
        if flood is None:
            self._write(_standing_for(1, attempt))

    def settle(self) -> None:
        """Write down what was counted in a second that is over; to be called at any attempt."""
        if self._floods:
            self._settle(self._clock.now())

    def close(self) -> None:
        """Write down all that was counted."""
        self._settle(float("inf"))

    def _settle(self, now: float) -> None:
        over = []
        with self._lock:
            for key, flood in tuple(self._floods.items()):
                if flood.ends <= now:
                    if flood.count:
                        over.append(_standing_for(flood.count, flood.last))
                        # It may go on: the next row is due a second later.
                        self._floods[key] = _Flood(now + _SECOND, flood.last)
                    else:
                        del self._floods[key]
        for attempt in over:
            # Whoever asks now has nothing to do with it; the log has the reason.
            with contextlib.suppress(CommandError):
                self._write(attempt)


def _standing_for(attempts: int, attempt: Attempt) -> Attempt:
    return dataclasses.replace(attempt, arguments=json.dumps({"attempts": attempts}))
