"""What is minded between two messages of a response stream: silence, and where a fault cuts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.outcome import Outcome, failed
from ninelives_grpc.policies.fault import Cut
from ninelives_grpc.policies.policy import Role

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.errors import InjectedError, LocalError, TimedOut
    from ninelives_grpc.policies.timeout import TimeoutFlow
    from ninelives_grpc.stacks.execution import Execution


class MessageLimits:
    """The limits of one attempt.

    Attributes:
        idle: Seconds to wait for a message, or None.
        taken: Messages that have come.
    """

    __slots__ = ("_call", "_cut", "_timeout", "idle", "taken")

    def __init__(
        self, call: Call, timeout: TimeoutFlow | None, idle: float | None, cut: Cut | None
    ) -> None:
        self._call = call
        self._timeout = timeout
        self._cut = cut
        self.idle = idle
        self.taken = 0

    def next_by(self, now: float, limit: float | None = None) -> float | None:
        """Return when the next message must be there, `limit` at the latest."""
        if self.idle is None:
            return limit
        return now + self.idle if limit is None else min(limit, now + self.idle)

    def cut(self, now: float) -> InjectedError | None:
        """Return the error that the stream is to end with in place of the next message, or None."""
        cut = self._cut
        if cut is None or self.taken < cut.messages:
            return None
        return cut.strike(self._call, now)

    def silent(self, now: float, *, aio: bool) -> TimedOut:
        """Return the error of a stream whose next message has not come in time."""
        assert self._timeout is not None
        assert self.idle is not None
        return self._timeout.silent(self._call, self.idle, now, aio=aio)


def limits_of(execution: Execution) -> MessageLimits | None:
    """Return the limits of the attempt under way, or None if it has none."""
    cut: Cut | None = None
    timeout: TimeoutFlow | None = None
    shortest: float | None = None
    for layer, entry in execution.under_way():
        if isinstance(entry, Cut):
            cut = entry
        elif layer.role is Role.TIMEOUT:
            idle = layer.policy.idle
            if idle is not None and (shortest is None or idle < shortest):
                timeout, shortest = layer, idle
    if cut is None and timeout is None:
        return None
    return MessageLimits(execution.call, timeout, shortest, cut)


def ended_here(error: LocalError) -> Outcome:
    """Return the outcome of a stream that one of its limits has ended."""
    outcome = failed(error, 0.0)
    # It has been noted already, so no timeout around it takes it for its own.
    outcome.timed_out = isinstance(error, TimeoutError)
    return outcome
