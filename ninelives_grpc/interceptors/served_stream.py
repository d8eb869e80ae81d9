"""The responses of a protected sync handler, one by one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ninelives_grpc.interceptors.serve import (
    HandlerStoppedError,
    ended,
    enter,
    leave,
    overdue,
    own_limit,
    raised_or_gone,
    result_of,
    served_call,
    stop_if_over,
    until_over,
)
from ninelives_grpc.scheduler import scheduler
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.messages import ended_here, limits_of
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, Step
from ninelives_grpc.stacks.sync import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc.call import Method
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.stacks.messages import MessageLimits
    from ninelives_grpc.stacks.stack import Stack


class ServedStream:
    """Asks the handler's iterator for each message, and notices its end.

    gRPC drops the iterator when the client has gone; then the call counts as cancelled.
    """

    def __init__(
        self,
        behaviour: Callable[..., Any],
        stack: Stack,
        method: Method,
        request: Any,
        context: Any,
    ) -> None:
        """Ask for admission, and call the handler.

        Raises:
            Exception: The call was refused, or the handler raised: gRPC knows what to send.
        """
        self._behaviour = behaviour
        self._stack = stack
        self._request = request
        self._context = context
        self._iterator: Iterator[Any] = iter(())
        call = served_call(stack, method, request, context)
        self._execution = Execution(stack.plan, call, call.deadline)
        self._duration: float | None = None
        self._limit: float | None = None
        self._limits: MessageLimits | None = None
        self._go(self._execution.start(call.started))

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next message of the handler, or of a local answer."""
        execution = self._execution
        if execution.finished:
            return next(self._iterator)
        row = execution.current()
        token = enter(self._stack, row, self._context)
        try:
            message = self._take(row)
        except StopIteration:
            outcome = ended(self._stack, row, self._context)
        except HandlerStoppedError as stopped:
            outcome = stopped.outcome
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            outcome = raised_or_gone(error, self._stack, row, self._context)
        else:
            if self._duration is None:
                execution.call.committed = True
                self._duration = self._stack.clock.now() - execution.call.started
            return message
        finally:
            leave(token)
        self._settle(outcome)
        return next(self)

    def _take(self, row: Execution) -> Any:
        """Return the next message of a handler, which can only be stopped between two of them."""
        limit, limits = self._limit, self._limits
        if limit is None and limits is None:
            return next(self._iterator)
        now = self._stack.clock.now()
        until = limit if limits is None else limits.next_by(now, limit)
        cut = None if limits is None else limits.cut(now)
        if cut is None and (limit is None or now < limit):
            message = next(self._iterator)
            now = self._stack.clock.now()
            if until is None or now < until:
                if limits is not None:
                    limits.taken += 1
                return message
        close(self._iterator)
        if cut is not None:
            raise HandlerStoppedError(ended_here(cut))
        raise overdue(row, self._stack, limits, limit, now)

    def _settle(self, outcome: Outcome) -> None:
        now = self._stack.clock.now()
        duration = self._duration
        outcome.duration = now - self._execution.call.started if duration is None else duration
        self._iterator = iter(())
        self._go(self._execution.settle(outcome, now))

    def _go(self, step: Step) -> None:
        """Take steps until there is an iterator to read from."""
        stack, execution = self._stack, self._execution
        while step is not FINISH:
            if step is PAUSE:
                step = self._wait()
                continue
            assert step is ATTEMPT
            row = execution.current()
            self._limit, self._limits = own_limit(row), limits_of(execution)
            token = enter(stack, row, self._context)
            try:
                self._iterator = iter(self._behaviour(self._request, self._context))
            except Exception as error:  # noqa: BLE001 - it becomes the outcome
                outcome = raised_or_gone(error, self._stack, row, self._context)
                step = execution.settle(outcome, stack.clock.now())
            else:
                return
            finally:
                leave(token)
        stack.recorder.ended(execution.call, execution.outcome, stack.clock.now())
        if execution.outcome.local:
            self._iterator = iter(execution.outcome.value)  # type: ignore[call-overload]
        else:
            result_of(execution, stack, self._context)

    def _wait(self) -> Step:
        execution, clock = self._execution, self._stack.clock
        execution.call.lifetime = execution.call.lifetime or until_over(self._context)
        try:
            pause(execution, clock)
            return execution.resume(clock.now())
        except BaseException:
            lost(self._stack, execution)
            stop_if_over(execution.call, self._context)
            raise

    def __del__(self) -> None:
        """Notice that gRPC has dropped the stream.

        The rest is for another thread: garbage collection may come under a policy's lock.
        """
        execution: Execution | None = getattr(self, "_execution", None)
        if execution is not None and not execution.finished:
            scheduler.later(
                0.0, partial(lost, self._stack, execution, getattr(self, "_iterator", None))
            )


def lost(stack: Stack, execution: Execution, iterator: object = None) -> None:
    """Give back what was admitted for a stream that nobody reads any more, unless that is done."""
    if execution.finished:
        return
    try:
        close(iterator)
    finally:
        abandon(stack, execution, stack.clock.now())


def close(iterator: object) -> None:
    """Let a generator run what it has to at its end."""
    end = getattr(iterator, "close", None)
    if callable(end):
        end()
