"""Protect plain functions that serve an asyncio server: gRPC runs them in a thread."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ninelives_grpc.interceptors.served_stream import ServedStream, lost
from ninelives_grpc.interceptors.server import unary_response
from ninelives_grpc.scheduler import scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc.call import Method
    from ninelives_grpc.stacks.stack import Stack


class Threaded:
    """A protected plain function with one response, for one task after the other.

    gRPC runs it in a thread of the migration pool, where nothing tells that the client has gone.
    """

    def __init__(self, behaviour: Callable[..., Any], stack: Stack, method: Method) -> None:
        """Protect a plain function."""
        self._serve = unary_response(behaviour, stack, method)

    def of(self, task: Any) -> Callable[[Any, Any], Any]:
        """Return the function for one call, whose task is given."""
        return lambda request, context: self._serve(request, ThreadContext(context, task))


def threaded_stream(
    behaviour: Callable[..., Any], stack: Stack, method: Method
) -> Callable[[Any, Any], Iterator[Any]]:
    """Protect a plain function with a response stream."""

    def steps(request: Any, context: StreamContext) -> Iterator[Any]:
        # Ended by us, it ends with what was set.
        with contextlib.suppress(_EndedInTurnError):
            yield from ThreadedStream(behaviour, stack, method, request, context)

    def protected(request: Any, context: Any) -> Iterator[Any]:
        # gRPC calls this in the loop, and runs the steps of what it returns in a thread.
        return steps(request, StreamContext(context, asyncio.current_task()))

    return protected


class ThreadedStream(ServedStream):
    """The responses of a plain function.

    When the client has gone, gRPC's thread may wait for ever for somebody to take a message.
    """

    none_ends = False

    def __init__(
        self,
        behaviour: Callable[..., Any],
        stack: Stack,
        method: Method,
        request: Any,
        context: ThreadContext,
    ) -> None:
        """Ask for admission, and call the handler; raises as `ServedStream` does."""
        self._over = context.over
        super().__init__(behaviour, stack, method, request, context)

    def _watch_end(self) -> None:
        self._context.add_callback(partial(scheduler.later, 0.0, self._give_up))

    def _next(self) -> Any:
        """Return the next message, if there is somebody to take it."""
        message = super()._next()
        if self._over():
            self._give_up()
            raise StopIteration
        return message

    def _begin(self) -> Iterator[Any]:
        """Call the handler; an asyncio server takes whatever can be iterated."""
        return iter(super()._begin())

    def _give_up(self) -> None:
        """Give back what was admitted, unless the handler is at work and will notice by itself."""
        if self._step.acquire(blocking=False):
            try:
                lost(self._stack, self._execution, self._iterator)
            finally:
                self._step.release()


class ThreadContext:
    """What gRPC gives a plain function on an asyncio server, and what it does not tell.

    Attributes:
        over: Tells whether the call has ended, perhaps because the client has gone.
    """

    def __init__(self, context: Any, task: Any) -> None:
        """Cover gRPC's context of a call that is served by a task."""
        self._context = context
        self._task = task
        self._code: Any = None
        self.over: Callable[[], bool] = task.done

    def code(self) -> Any:
        """Return the code that was set, or None."""
        return self._code

    def set_code(self, code: Any) -> None:
        """Set the code."""
        self._code = code
        self._context.set_code(code)

    def abort(self, code: Any, details: str = "", trailing_metadata: tuple[Any, ...] = ()) -> None:
        """End the call with a code; raises, as gRPC's does."""
        self._code = code
        self._context.abort(code, details, trailing_metadata)

    def is_active(self) -> bool:
        """Tell whether the client is there, and there is time left."""
        if self.over():
            return False
        remaining = self._context.time_remaining()
        return remaining is None or remaining > 0

    def peer(self) -> str:
        """Return the address of the client; gRPC crashes when it is asked after the end."""
        return "" if self.over() else str(self._context.peer())

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call back in the loop at the end, also when that is because the client has gone."""
        loop = self._task.get_loop()
        loop.call_soon_threadsafe(self._task.add_done_callback, lambda _: callback())
        return True

    def __getattr__(self, name: str) -> Any:
        """Show everything else of gRPC's context."""
        return getattr(self._context, name)


class StreamContext(ThreadContext):
    """The same for a response stream."""

    def end_in_turn(self, code: Any, details: str) -> NoReturn:
        """End the call with a code after the messages that are on their way.

        `abort` sends the code at once, from another task than that which sends the messages; should
        one be under way, gRPC refuses the code, and the client waits for its deadline.
        """
        self.set_code(code)
        self._context.set_details(details)
        raise _EndedInTurnError


class _EndedInTurnError(Exception):
    """Ends a response stream; never leaves this module."""
