"""Protect an asyncio server by an interceptor."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from ninelives_grpc.errors import LocalError, pushback_metadata
from ninelives_grpc.interceptors.aio_threaded import Threaded, threaded_stream
from ninelives_grpc.interceptors.aio_written import written
from ninelives_grpc.interceptors.early import aio_refusing, early_refusal
from ninelives_grpc.interceptors.serve import (
    EARLY,
    Handlers,
    HandlerStoppedError,
    answered,
    behaviour_of,
    enter,
    made_here,
    overdue,
    own_limit,
    raised,
    served_call,
    too_late,
    with_behaviour,
)
from ninelives_grpc.interceptors.served_stream import lost
from ninelives_grpc.interceptors.within import LimitReachedError, within
from ninelives_grpc.outcome import Code, Kind, Outcome, failed
from ninelives_grpc.stacks.aio import go_on, pause
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.messages import ended_here, limits_of
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ninelives_grpc.call import Method
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.messages import MessageLimits
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

        async def attempt(row: Execution, _: float) -> Outcome:
            enter(stack, row, context)
            # Whoever writes its responses has more limits than this one.
            limit = None if writes else own_limit(row)
            work = (
                written(behaviour, request, context, execution, stack)
                if writes
                else behaviour(request, context)
            )
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
        step, begun = execution.start(call.started), call.started
        while step is not FINISH:
            if step is PAUSE:
                await pause(execution, clock)
                # What it takes is without what it has waited.
                begun = clock.now()
                step = execution.resume(begun)
                continue
            row = execution.current()
            enter(stack, row, context)
            messages, duration = behaviour(request, context), None
            limit, limits = own_limit(row), limits_of(execution)
            minded = limit is not None or limits is not None
            try:
                while True:
                    message = await (
                        in_time(messages, row, stack, limit, limits) if minded else anext(messages)
                    )
                    if duration is None:
                        duration = clock.now() - begun
                    call.committed = True
                    yield message
            except StopAsyncIteration:
                outcome = answered(context.code())
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                outcome = _raised(error, row, stack, context)
            finally:
                await messages.aclose()  # type: ignore[attr-defined]
            now = clock.now()
            outcome.duration = now - begun if duration is None else duration
            step = execution.settle(outcome, now)
        stack.recorder.ended(call, execution.outcome, clock.now())
        if execution.outcome.local:
            for message in execution.outcome.value:  # type: ignore[attr-defined]
                yield message
        else:
            await _result_of(execution, stack, context)

    return protected


async def in_time(
    messages: AsyncIterator[Any],
    row: Execution,
    stack: Stack,
    limit: float | None,
    limits: MessageLimits | None,
) -> Any:
    """Return the next message of a generator.

    Raises:
        HandlerStoppedError: It has not come in time, or a fault cuts the stream here.
        StopAsyncIteration: There is none.
    """
    now = stack.clock.now()
    if limit is not None and now >= limit:
        raise overdue(row, stack, limits, limit, now)
    until = limit if limits is None else limits.next_by(now, limit)
    cut = None if limits is None else limits.cut(now)
    if cut is not None:
        raise HandlerStoppedError(ended_here(cut))
    coming = anext(messages)
    try:
        message = await (coming if until is None else within(until, stack, coming))
    except LimitReachedError:
        raise overdue(row, stack, limits, limit, stack.clock.now()) from None
    if limits is not None:
        limits.taken += 1
    return message


def _raised(error: BaseException, row: Execution, stack: Stack, context: Any) -> Outcome:
    """Return the outcome of a handler that raised."""
    call = row.call
    if isinstance(error, HandlerStoppedError):
        return error.outcome
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
