"""Read a sync response stream whose messages are minded one by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.errors import LocalError
    from ninelives_grpc.stacks.messages import MessageLimits


class Follower:
    """Ends one attempt when its messages fail to come, or a fault cuts it.

    One timer serves the whole stream: when it fires, a message may have come in the meantime, and
    it is set anew. So a message costs no more than a look at the clock.

    Attributes:
        error: What it has ended the stream with, or None.
    """

    def __init__(
        self, limits: MessageLimits, clock: Clock, fail: Callable[[LocalError], object]
    ) -> None:
        """Follow an attempt; `fail` ends it, from any thread."""
        self.error: LocalError | None = None
        self._limits = limits
        self._clock = clock
        self._fail = fail
        # Reentrant, as a signal handler may cancel the call.
        self._lock = threading.RLock()
        self._waiting_until: float | None = None
        self._call_off: Callable[[], None] | None = None
        self._stopped = False

    def take(self, messages: Any) -> Any:
        """Return the next message.

        Raises:
            LocalError: A fault cuts the stream here.
            RpcError: It has ended, perhaps by `fail`.
        """
        if self.error is not None:
            raise self.error
        limits, now = self._limits, self._clock.now()
        cut = limits.cut(now)
        if cut is not None:
            self._end(cut)
            raise cut
        if limits.idle is not None:
            with self._lock:
                self._waiting_until = due = now + limits.idle
                if self._call_off is None and not self._stopped:
                    self._call_off = self._clock.at(due, self._look)
                    if self._stopped:
                        # By a signal handler, in between.
                        self.stop()
        try:
            message = next(messages)
        finally:
            self._waiting_until = None
        limits.taken += 1
        return message

    def stop(self) -> None:
        """Mind it no longer: the attempt is over."""
        with self._lock:
            self._stopped = True
            # It may refer to who refers to this.
            self._fail = _ignore
            call_off, self._call_off = self._call_off, None
        if call_off is not None:
            call_off()

    def _look(self) -> None:
        """See whether the stream is silent; runs in the thread of the clock."""
        now = self._clock.now()
        with self._lock:
            self._call_off = None
            due = self._waiting_until
            if due is None or self._stopped:
                return
            if now < due:
                self._call_off = self._clock.at(due, self._look)
                return
        self._end(self._limits.silent(now, aio=False))

    def _end(self, error: LocalError) -> None:
        self.error = error
        self._fail(error)


def _ignore(_: LocalError) -> None:
    """End nothing: it is over."""
