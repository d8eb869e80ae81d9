"""Protect an asyncio server by an interceptor."""

from __future__ import annotations

import asyncio
import inspect
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from ninelives_grpc.errors import LocalError, pushback_metadata
from ninelives_grpc.interceptors.early import aio_refusing, early_refusal
from ninelives_grpc.interceptors.scheduler import scheduler
from ninelives_grpc.interceptors.serve import (
    EARLY,
    Handlers,
    answered,
    behaviour_of,
    enter,
    made_here,
    own_limit,
    raised,
    served_call,
    too_late,
    with_behaviour,
)
from ninelives_grpc.interceptors.served_stream import ServedStream, lost
from ninelives_grpc.interceptors.server import unary_response
from ninelives_grpc.interceptors.within import LimitReachedError, within
from ninelives_grpc.outcome import Code, Kind, Outcome, failed
from ninelives_grpc.stacks.aio import go_on, pause
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from ninelives_grpc.call import Call, Method
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.stack import Stack

    Handler = grpc.RpcMethodHandler[Any, Any]


class AioServerInterceptor(aio.ServerInterceptor):
    """Takes served calls of all four kinds through the stack that their method is routed to.

    A handler stays what it is: a coroutine function, an async generator function, or a plain
    function that gRPC runs in a thread.
    """

    def __init__(self, routes: Routes) -> None:
        """Route by method.

        Raises:
            ConfigError: A stack has a policy that makes no sense on a server; says which.
        """
        self._handlers = Handlers(routes, protect)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the protected handler of the method, or one that refuses the call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        served = self._handlers.get(handler_call_details.method, handler)
        stack, protected = served.stack, served.handler
        if stack is not None and stack.plan.gates:
            metadata = handler_call_details.invocation_metadata
            refusal = early_refusal(stack, served.method, metadata)
            if refusal is not None:
                return aio_refusing(refusal)
        behaviour: Any = protected.unary_unary or protected.stream_unary
        if type(behaviour) is Threaded:
            return with_behaviour(protected, behaviour.of(asyncio.current_task()))
        return protected


def protect(handler: Handler, stack: Stack, method: Method) -> Any:
    """Return the behaviour of a handler under a stack, or what makes it for each call."""
    behaviour = behaviour_of(handler)
    if inspect.isasyncgenfunction(behaviour):
        return generated(behaviour, stack, method)
    if inspect.iscoroutinefunction(behaviour):
        return awaited(behaviour, stack, method, writes=handler.response_streaming)
    if handler.response_streaming:
        return threaded_stream(behaviour, stack, method)
    return Threaded(behaviour, stack, method)


def awaited(
    behaviour: Callable[..., Any], stack: Stack, method: Method, *, writes: bool
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Protect a coroutine function: one response, or a stream that it writes itself."""
    clock, plan, recorder = stack.clock, stack.plan, stack.recorder
    replaceable = writes and plan.repeats

    async def protected(request: Any, context: Any) -> Any:
        call = served_call(stack, method, request, context)
        execution = Execution(plan, call, call.deadline)
        told = WatchedContext(context, call) if replaceable else context

        async def attempt(row: Execution, _: float) -> Outcome:
            enter(stack, row, context)
            limit, work = own_limit(row), behaviour(request, told)
            try:
                response = await (work if limit is None else within(limit, stack, work))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                return _raised(error, row, stack, context)
            outcome = answered(context.code())
            outcome.value = response
            return outcome

        now = call.started
        try:
            step = execution.start(now)
            if step is ATTEMPT and execution.child is None:
                # As `go_on` would, but this is the path of every call, and mostly all of it.
                outcome = await attempt(execution, now)
                ended = clock.now()
                outcome.duration = ended - now
                now = ended
                step = execution.settle(outcome, now)
                del outcome
            if step is not FINISH:
                now = await go_on(execution, step, attempt, clock, now)
        except BaseException as error:
            abandon(stack, execution, clock.now(), error)
            raise
        recorder.ended(call, execution.outcome, now)
        if execution.outcome.code is Code.OK and not replaceable:
            return execution.outcome.value
        response = await _result_of(execution, stack, context)
        if replaceable and execution.outcome.local:
            for message in response:  # type: ignore[attr-defined]
                await context.write(message)
        return response

    return protected


class WatchedContext:
    """What gRPC gives a handler that writes its responses itself, and a note that it has."""

    def __init__(self, context: Any, call: Call) -> None:
        """Cover gRPC's context of a call."""
        self._context = context
        self._call = call

    async def write(self, message: Any) -> None:
        """Send one response; from then on nothing takes the handler's place."""
        self._call.committed = True
        await self._context.write(message)

    def __getattr__(self, name: str) -> Any:
        """Show everything else of gRPC's context."""
        return getattr(self._context, name)


def generated(
    behaviour: Callable[..., AsyncIterator[Any]], stack: Stack, method: Method
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    """Protect an async generator function."""
    clock = stack.clock

    async def protected(request: Any, context: Any) -> AsyncIterator[Any]:
        call = served_call(stack, method, request, context)
        execution = Execution(stack.plan, call, call.deadline)
        task = asyncio.current_task()
        assert task is not None
        # gRPC may leave this generator behind wherever it is; the end of its task is the end.
        task.add_done_callback(lambda _: lost(stack, execution))
        step = execution.start(call.started)
        while step is not FINISH:
            if step is PAUSE:
                await pause(execution, clock)
                step = execution.resume(clock.now())
                continue
            row = execution.current()
            enter(stack, row, context)
            messages, limit, duration = behaviour(request, context), own_limit(row), None
            try:
                while limit is None or clock.now() < limit:
                    coming = anext(messages)
                    message = await (coming if limit is None else within(limit, stack, coming))
                    if duration is None:
                        duration = clock.now() - call.started
                    call.committed = True
                    yield message
                outcome = failed(too_late(row, stack), 0.0)
            except StopAsyncIteration:
                outcome = answered(context.code())
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                outcome = _raised(error, row, stack, context)
            finally:
                await messages.aclose()  # type: ignore[attr-defined]
            now = clock.now()
            outcome.duration = now - call.started if duration is None else duration
            step = execution.settle(outcome, now)
        stack.recorder.ended(call, execution.outcome, clock.now())
        if execution.outcome.local:
            for message in execution.outcome.value:  # type: ignore[attr-defined]
                yield message
        else:
            await _result_of(execution, stack, context)

    return protected


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

    def steps(request: Any, context: ThreadContext) -> Iterator[Any]:
        yield from ThreadedStream(behaviour, stack, method, request, context)

    def protected(request: Any, context: Any) -> Iterator[Any]:
        # gRPC calls this in the loop, and runs the steps of what it returns in a thread.
        return steps(request, ThreadContext(context, asyncio.current_task()))

    return protected


class ThreadedStream(ServedStream):
    """The responses of a plain function.

    When the client has gone, gRPC's thread may wait for ever for somebody to take a message.
    """

    def __init__(
        self,
        behaviour: Callable[..., Any],
        stack: Stack,
        method: Method,
        request: Any,
        context: ThreadContext,
    ) -> None:
        """Ask for admission, and call the handler; raises as `ServedStream` does."""
        self._step = threading.RLock()
        self._over = context.over
        with self._step:
            super().__init__(behaviour, stack, method, request, context)
        context.add_callback(partial(scheduler.later, 0.0, self._give_up))

    def __next__(self) -> Any:
        """Return the next message, if there is somebody to take it."""
        with self._step:
            message = super().__next__()
            if self._over():
                self._give_up()
                raise StopIteration
            return message

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


def _raised(error: BaseException, row: Execution, stack: Stack, context: Any) -> Outcome:
    """Return the outcome of a handler that raised."""
    call = row.call
    if isinstance(error, LimitReachedError):
        return failed(too_late(row, stack), 0.0)
    if isinstance(error, asyncio.CancelledError):
        call.committed = True
        late = call.deadline is not None and stack.clock.now() >= call.deadline - EARLY
        if late:
            return Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, 0.0, error)
        return Outcome(Kind.IGNORED, Code.CANCELLED, 0.0, error)
    return raised(error, context.code(), call)


async def _result_of(execution: Execution, stack: Stack, context: Any) -> object:
    """Return what a handler returned, or end the call as it ended."""
    outcome = execution.outcome
    refusal, error = outcome.refusal, outcome.error
    if refusal is not None:
        await context.abort(refusal.code, refusal.details, pushback_metadata(refusal.retry_after))
    if error is None:
        return outcome.value
    ours = made_here(outcome, stack)
    del execution.outcome, outcome
    if isinstance(error, LocalError) and ours:
        await context.abort(error.code(), error.details())
    try:
        raise error
    finally:
        # Its traceback refers to this frame.
        del error
