"""Serve a stream by an asyncio handler that writes its responses itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ninelives_grpc.errors import InjectedError
from ninelives_grpc.interceptors.serve import HandlerStoppedError, overdue, own_limit
from ninelives_grpc.interceptors.within import LimitReachedError, within
from ninelives_grpc.stacks.messages import ended_here, limits_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.messages import MessageLimits
    from ninelives_grpc.stacks.stack import Stack


async def written(
    behaviour: Callable[..., Any],
    request: Any,
    context: Any,
    execution: Execution,
    stack: Stack,
) -> Any:
    """Await the handler, within the limits that there are for it and for its messages.

    Raises:
        HandlerStoppedError: It took too long, or a fault cut the stream.
    """
    row, limits = execution.current(), limits_of(execution)
    limit = own_limit(row)
    until = limit if limits is None else limits.next_by(stack.clock.now(), limit)
    scope = None if until is None else stack.clock.timeout(until)
    writer = WrittenContext(context, row, stack, limits, scope)
    work = behaviour(request, writer)
    try:
        return await (work if until is None else within(until, stack, work, scope))
    except LimitReachedError:
        raise overdue(row, stack, limits, limit, stack.clock.now()) from None
    except InjectedError as error:
        if error is not writer.cut:
            raise
        raise HandlerStoppedError(ended_here(error)) from None


class WrittenContext:
    """What gRPC gives the handler, which sees what the handler writes.

    Attributes:
        cut: The error with which a fault has cut the stream, or None.
    """

    def __init__(
        self,
        context: Any,
        row: Execution,
        stack: Stack,
        limits: MessageLimits | None,
        scope: asyncio.Timeout | None,
    ) -> None:
        """Cover gRPC's context of a call; `scope` is the time until the next message."""
        self.cut: InjectedError | None = None
        self._context = context
        self._row = row
        self._clock = stack.clock
        self._limits = limits
        self._scope = scope

    async def write(self, message: Any) -> None:
        """Send one response; from then on nothing takes the handler's place."""
        limits, now = self._limits, self._clock.now
        if limits is not None:
            self.cut = self.cut or limits.cut(now())
        if self.cut is not None:
            raise self.cut
        self._row.call.committed = True
        await self._context.write(message)
        if limits is None:
            return
        limits.taken += 1
        until = limits.next_by(now(), own_limit(self._row))
        if until is not None and self._scope is not None:
            # The handler may have been stopped, or not have waited for anything yet.
            with contextlib.suppress(RuntimeError):
                self._clock.move(self._scope, until)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call back at the end, with the context that the handler knows."""
        self._context.add_done_callback(lambda _: callback(self))

    def __getattr__(self, name: str) -> Any:
        """Show everything else of gRPC's context."""
        return getattr(self._context, name)
