"""Settle a call that is gRPC's own object, when it ends or is dropped.

Where nothing is to be repeated, the application gets the very object that it would get without us.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from ninelives_grpc.interceptors.attempts import outcome_of
from ninelives_grpc.outcome import Outcome, cancelled
from ninelives_grpc.scheduler import scheduler

if TYPE_CHECKING:
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.stack import Stack


class Watch:
    """Waits for the end of one sync call object, without keeping it alive.

    gRPC cancels a call whose object is dropped; holding on to it would prevent that.
    """

    __slots__ = ("_execution", "_finalizer", "_lock", "_reference", "_stack", "_streaming")

    def __init__(
        self, stack: Stack, execution: Execution, started: Any, *, streaming: bool
    ) -> None:
        """Watch a call that has been started."""
        self._stack = stack
        self._execution = execution
        self._lock = threading.Lock()
        self._streaming = streaming
        self._reference = weakref.ref(started)
        self._finalizer: Any = None
        if streaming:
            # A dropped stream that others have made an iterator never calls back.
            self._finalizer = weakref.finalize(
                started, scheduler.later, 0.0, partial(self._settle, cancelled())
            )
            self._finalizer.atexit = False
        if not started.add_callback(self._ended):
            self._ended()

    def _ended(self) -> None:
        """Hear from gRPC that the call is over."""
        if self._finalizer is not None:
            self._finalizer.detach()
        ended = self._reference()
        duration = self._stack.clock.now() - self._execution.call.started
        if ended is None:
            self._settle(cancelled(duration))
        else:
            # How long a stream lasts says nothing of how fast its server is, should that count now.
            unknown = self._streaming and self._execution.plan.follows_messages
            self._settle(outcome_of(ended, 0.0 if unknown else duration))

    def _settle(self, outcome: Outcome) -> None:
        execution, now = self._execution, self._stack.clock.now()
        with self._lock:
            if execution.finished:
                return
            execution.settle(outcome, now)
        self._stack.recorder.ended(execution.call, execution.outcome, now)
