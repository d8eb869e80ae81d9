"""Read an asyncio response stream whose messages are minded one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import aio

from ninelives_grpc.interceptors.within import LimitReachedError, within

_EARLY = 0.001
"""Seconds by which a timer of asyncio may fire before its time."""

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ninelives_grpc.errors import LocalError
    from ninelives_grpc.stacks.messages import MessageLimits
    from ninelives_grpc.stacks.stack import Stack


class AioFollower:
    """Ends one attempt when its messages fail to come, or a fault cuts it."""

    def __init__(self, limits: MessageLimits, stack: Stack, attempt: Any) -> None:
        """Follow an attempt."""
        self._limits = limits
        self._now = stack.clock.now
        self._stack = stack
        self._attempt = attempt
        self._waiting_until: float | None = None
        self._error: LocalError | None = None

    async def take(self, coming: Coroutine[Any, Any, Any]) -> Any:
        """Await the next message.

        Raises:
            LocalError: It failed to come, or a fault cuts the stream here.
        """
        limits, now = self._limits, self._now()
        if self._error is None:
            self._error = limits.cut(now)
        if self._error is not None:
            coming.close()
            self._attempt.cancel()
            raise self._error
        self._waiting_until = until = limits.next_by(now)
        try:
            message = await (coming if until is None else within(until, self._stack, coming))
        except LimitReachedError:
            raise self._silent() from None
        finally:
            self._waiting_until = None
        if message is not aio.EOF:
            limits.taken += 1
        return message

    def verdict(self) -> LocalError | None:
        """Return what it has ended the attempt with, or None.

        gRPC cancels the attempt, and reports that, before whoever reads it hears of the time.
        """
        until = self._waiting_until
        if until is not None and self._now() >= until - _EARLY:
            return self._silent()
        return self._error

    def _silent(self) -> LocalError:
        self._error = self._error or self._limits.silent(self._now(), aio=True)
        return self._error
