"""The responses of a protected sync handler, one by one."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from ninelives_grpc.interceptors.follower import Follower
from ninelives_grpc.interceptors.serve import (
    HandlerStoppedError,
    ended,
    enter,
    leave,
    own_limit,
    raised_or_gone,
    result_of,
    served_call,
    stop_if_over,
    too_late,
    until_over,
)
from ninelives_grpc.outcome import failed
from ninelives_grpc.scheduler import scheduler
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.messages import ended_here, limits_of
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, Step
from ninelives_grpc.stacks.sync import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc.call import Method
    from ninelives_grpc.errors import LocalError
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.stacks.stack import Stack


class ServedStream:
    """Asks the handler's iterator for each message, and notices its end.

    gRPC drops the iterator when the client has gone, or keeps it in a traceback. What was admitted
    is given back at the end of the call, or when the handler comes to the end of what it is at.

    Attributes:
        none_ends: Whether gRPC takes None for the end of the responses.
    """

    none_ends = True

    def __init__(
        self,
        behaviour: Callable[..., Any],
        stack: Stack,
        method: Method,
        request: Any,
        context: Any,
        *,
        end_call: Callable[[LocalError], object] | None = None,
    ) -> None:
        """Ask for admission, and call the handler.

        Args:
            behaviour: The handler.
            stack: What protects it.
            method: The method.
            request: The request, or the requests.
            context: gRPC's context of the call.
            end_call: Ends one that has fallen silent; None waits for the handler's next message.

        Raises:
            Exception: The call was refused, or the handler raised: gRPC knows what to send.
        """
        self._behaviour = behaviour
        self._stack = stack
        self._request = request
        self._context = context
        self._end_call = end_call or _nothing
        self._iterator: Iterator[Any] = iter(())
        self._rest: Iterator[Any] = iter(())
        self._step = threading.RLock()
        call = served_call(stack, method, request, context)
        self._execution = Execution(stack.plan, call, call.deadline)
        self._begun = call.started
        self._duration: float | None = None
        self._limit: float | None = None
        self._follower: Follower | None = None
        with self._step:
            self._go(self._execution.start(call.started))
        self._watch_end()

    def _watch_end(self) -> None:
        """Have the call end for us too when it does for gRPC, whoever still holds this."""
        # Nothing that refers to this: gRPC drops it in the thread in which the handler is to end.
        stop = _nothing if self._follower is None else self._follower.stop
        give_up = partial(_give_up, self._step, self._stack, self._execution, stop)
        if not self._execution.finished and not self._context.add_callback(give_up):
            give_up()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next message of the handler, or of a local answer."""
        with self._step:
            return self._next()

    def _next(self) -> Any:
        execution = self._execution
        if execution.finished:
            return next(self._rest)
        row = execution.current()
        token = enter(self._stack, row, self._context)
        try:
            message = self._take(row)
            if message is None and self.none_ends:
                close(self._iterator)
                raise StopIteration  # noqa: TRY301
        except StopIteration:
            outcome = ended(self._stack, row, self._context)
        except HandlerStoppedError as stopped:
            outcome = stopped.outcome
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            outcome = raised_or_gone(error, self._stack, row, self._context)
        else:
            if self._duration is None:
                execution.call.committed = True
                self._duration = self._stack.clock.now() - self._begun
            return message
        finally:
            leave(token)
        self._settle(outcome)
        return self._next()

    def _take(self, row: Execution) -> Any:
        """Return the next message of a handler, which can only be stopped between two of them."""
        limit, follower = self._limit, self._follower
        if limit is None and follower is None:
            return next(self._iterator)
        now = self._stack.clock.now
        if limit is None or now() < limit:
            message = next(self._iterator) if follower is None else self._followed(follower)
            if limit is None or now() < limit:
                return message
        close(self._iterator)
        raise HandlerStoppedError(failed(too_late(row, self._stack), 0.0))

    def _followed(self, follower: Follower) -> Any:
        """Return the next message, unless a limit for messages has ended the stream."""
        try:
            message = follower.take(self._iterator)
        except (StopIteration, Exception):
            if follower.error is None:
                raise
        if follower.error is None:
            return message
        close(self._iterator)
        raise HandlerStoppedError(ended_here(follower.error))

    def _settle(self, outcome: Outcome) -> None:
        if self._follower is not None:
            self._follower.stop()
        now = self._stack.clock.now()
        duration = self._duration
        outcome.duration = now - self._begun if duration is None else duration
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
            self._limit, limits = own_limit(row), limits_of(execution)
            if limits is not None:
                # Not a method of this: gRPC drops a stream that nobody reads, and it must go then.
                self._follower = Follower(limits, stack.clock, self._end_call)
            token = enter(stack, row, self._context)
            try:
                self._iterator = self._begin()
            except Exception as error:  # noqa: BLE001 - it becomes the outcome
                outcome = raised_or_gone(error, self._stack, row, self._context)
                step = execution.settle(outcome, stack.clock.now())
            else:
                return
            finally:
                leave(token)
        stack.recorder.ended(execution.call, execution.outcome, stack.clock.now())
        if execution.outcome.local:
            self._rest = iter(execution.outcome.value)  # type: ignore[call-overload]
        else:
            result_of(execution, stack, self._context)

    def _begin(self) -> Iterator[Any]:
        """Call the handler; gRPC's sync server asks for no more than `next` of what it returns."""
        made: Iterator[Any] = self._behaviour(self._request, self._context)
        return made

    def _wait(self) -> Step:
        execution, clock = self._execution, self._stack.clock
        execution.call.lifetime = execution.call.lifetime or until_over(self._context)
        try:
            pause(execution, clock)
            # What it takes is without what it has waited.
            self._begun = clock.now()
            return execution.resume(self._begun)
        except BaseException:
            lost(self._stack, execution)
            stop_if_over(execution.call, self._context)
            raise

    def __del__(self) -> None:
        """Notice that gRPC has dropped the stream.

        The handler's generator ends here, in the thread and the context that it ran in, as without
        us. To settle is for another thread: garbage collection may come under a policy's lock.
        """
        execution: Execution | None = getattr(self, "_execution", None)
        follower: Follower | None = getattr(self, "_follower", None)
        if follower is not None:
            scheduler.later(0.0, follower.stop)
        try:
            close(getattr(self, "_iterator", None))
        finally:
            if execution is not None and not execution.finished:
                scheduler.later(0.0, partial(lost, self._stack, execution))


def _give_up(
    step: threading.RLock, stack: Stack, execution: Execution, stop: Callable[[], object]
) -> None:
    """End a call that is over, unless the handler is at work and will notice by itself.

    `stop` ends the watch over its messages.

    gRPC calls back in one of its threads, which is not to wait for an event of ours.
    """
    if not execution.finished:
        scheduler.later(0.0, partial(_lose_unless_at_work, step, stack, execution, stop))


def _lose_unless_at_work(
    step: threading.RLock, stack: Stack, execution: Execution, stop: Callable[[], object]
) -> None:
    if step.acquire(blocking=False):
        try:
            stop()
            lost(stack, execution)
        finally:
            step.release()


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


def _nothing(*_: object) -> None:
    """Leave it to the handler; there is nothing to stop."""
