"""Protect a sync server by an interceptor."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.admission.ticket import ARRIVAL
from ninelives_grpc.errors import TimedOut
from ninelives_grpc.interceptors.early import early_refusal, refusing
from ninelives_grpc.interceptors.serve import (
    Handlers,
    answered,
    behaviour_of,
    ended,
    enter,
    leave,
    raised,
    raised_or_gone,
    result_of,
    served_call,
    stop_if_over,
    until_over,
)
from ninelives_grpc.interceptors.served_stream import ServedStream
from ninelives_grpc.outcome import Outcome, cancelled
from ninelives_grpc.stacks.edge import abandon
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE
from ninelives_grpc.stacks.sync import go_on, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.call import Method
    from ninelives_grpc.errors import LocalError
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.stack import Stack

    Handler = grpc.RpcMethodHandler[Any, Any]


class ServerInterceptor(grpc.ServerInterceptor):
    """Takes served calls of all four kinds through the stack that their method is routed to.

    gRPC asks it under the server's lock: it only looks up the protected handler, and whether the
    call is sure to be refused. Admission happens where the handler runs, and what was admitted is
    given back when the handler has really ended, also when its client has long gone.
    """

    def __init__(self, routes: Routes) -> None:
        """Route by method.

        Raises:
            ConfigError: A stack has a policy that makes no sense on a server; says which.
        """
        self._handlers = Handlers(routes, protect, threads=True)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the protected handler of the method, or one that refuses the call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        served = self._handlers.get(handler_call_details.method, handler)
        stack = served.stack
        if stack is not None and stack.plan.gates:
            metadata = handler_call_details.invocation_metadata
            refusal = early_refusal(stack, served.method, metadata)
            if refusal is not None:
                return refusing(refusal)
        if served.entrance is not None:
            # For the executor, which is handed the call next.
            ARRIVAL.set((served.entrance, handler_call_details.invocation_metadata))
        return served.handler


def protect(handler: Handler, stack: Stack, method: Method) -> Callable[..., Any]:
    """Return the behaviour of a handler under a stack."""
    behaviour = behaviour_of(handler)
    if not handler.response_streaming:
        return unary_response(behaviour, stack, method)
    if getattr(behaviour, "experimental_non_blocking", False):
        return pushed_responses(behaviour, stack, method)

    def protected(request: Any, context: Any) -> ServedStream:
        end = partial(wake, context) if handler.request_streaming else None
        return ServedStream(behaviour, stack, method, request, context, end_call=end)

    return protected


def wake(context: Any, error: LocalError) -> None:
    """End a call whose handler waits for a client who sends nothing."""
    if isinstance(error, TimedOut):
        context.cancel()


def unary_response(
    behaviour: Callable[..., Any], stack: Stack, method: Method
) -> Callable[[Any, Any], Any]:
    """Protect a handler that returns one message."""
    clock, plan, recorder = stack.clock, stack.plan, stack.recorder

    def protected(request: Any, context: Any) -> Any:
        call = served_call(stack, method, request, context)
        execution = Execution(plan, call, call.deadline)

        def attempt(row: Execution, _: float) -> Outcome:
            token = enter(stack, row, context)
            try:
                response = behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - it becomes the outcome
                return raised_or_gone(error, stack, row, context)
            finally:
                leave(token)
            outcome = ended(stack, row, context)
            outcome.value = response
            return outcome

        try:
            step = execution.start(call.started)
            if step is not ATTEMPT or execution.child is not None:
                # It may have to wait.
                call.lifetime = until_over(context)
            now = go_on(execution, step, attempt, clock, call.started)
        except BaseException as error:
            abandon(stack, execution, clock.now(), error)
            stop_if_over(call, context)
            raise
        recorder.ended(call, execution.outcome, now)
        return result_of(execution, stack, context)

    return protected


def pushed_responses(
    behaviour: Callable[..., Any], stack: Stack, method: Method
) -> Callable[[Any, Any, Callable[[Any], None]], None]:
    """Protect a handler that returns at once and pushes its messages, None for the end."""
    lock = threading.Lock()

    def protected(request: Any, context: Any, push: Callable[[Any], None]) -> None:
        call = served_call(stack, method, request, context)
        execution = Execution(stack.plan, call, call.deadline)
        begun = call.started

        def settle(outcome: Outcome) -> None:
            now = stack.clock.now()
            with lock:
                if execution.finished:
                    return
                outcome.duration = now - begun
                execution.settle(outcome, now)
            stack.recorder.ended(call, execution.outcome, now)

        def push_and_settle(message: Any) -> None:
            call.committed = True
            if message is None:
                # Before gRPC can tell the end by callback, which would be taken for a cancellation.
                settle(answered(context.code()))
            push(message)

        if not _admit(execution, stack, context):
            for message in execution.outcome.value:  # type: ignore[attr-defined]
                push(message)
            push(None)
            return
        begun = stack.clock.now() if call.lifetime else begun
        if not context.add_callback(lambda: settle(cancelled())):
            settle(cancelled())
        try:
            behaviour(request, context, push_and_settle)
        except Exception as error:
            call.committed = True
            settle(raised(error, context.code(), call))
            raise

    return protected


def _admit(execution: Execution, stack: Stack, context: Any) -> bool:
    """Wait until a handler may start, or end the call that is refused; False for a local answer."""
    call, clock = execution.call, stack.clock
    try:
        step = execution.start(call.started)
        if step is PAUSE:
            call.lifetime = until_over(context)
        while step is PAUSE:
            pause(execution, clock)
            step = execution.resume(clock.now())
    except BaseException as error:
        abandon(stack, execution, clock.now(), error)
        stop_if_over(call, context)
        raise
    if step is FINISH:
        stack.recorder.ended(call, execution.outcome, clock.now())
        result_of(execution, stack, context)
    return step is not FINISH
