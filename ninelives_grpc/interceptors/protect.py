"""Take one sync client call through a stack: blocking, as a future, or as a response stream.

Wrapped channels and interceptors differ only in how they start an attempt.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.interceptors.answer import LocalAnswer
from ninelives_grpc.interceptors.calls import ProtectedCall, ProtectedStream, single_threaded
from ninelives_grpc.interceptors.driver import Driver
from ninelives_grpc.interceptors.watch import Watch
from ninelives_grpc.outcome import Code
from ninelives_grpc.stacks.edge import abandon, error_of, result_of
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH
from ninelives_grpc.stacks.sync import go_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.call import Call
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.stacks.plan import Plan
    from ninelives_grpc.stacks.stack import Stack


_GRPC = "grpc._cython.cygrpc"
"""The module that starts gRPC's threads."""


def blocking(
    stack: Stack,
    plan: Plan,
    call: Call,
    attempt: Callable[[Call, Any, Execution, float], Outcome],
    given: Any,
) -> Outcome:
    """Make the call in this thread, and return its outcome, or raise its error.

    Args:
        stack: What protects it.
        plan: The stack's plan for the method.
        call: The call.
        attempt: Makes an attempt, told the call, what is `given`, the row and the time.
        given: What it needs besides.
    """
    execution, clock, now = Execution(plan, call, call.deadline), stack.clock, call.started
    try:
        step = execution.start(now)
        if step is ATTEMPT and execution.child is None:
            # As `go_on` would, but this is the path of every call, and mostly all of it.
            outcome = attempt(call, given, execution, now)
            ended = clock.now()
            outcome.duration = ended - now
            now = ended
            step = execution.settle(outcome, now)
        if step is not FINISH:
            now = go_on(execution, step, partial(attempt, call, given), clock, now)
    except BaseException as error:
        abandon(stack, execution, clock.now(), error)
        raise
    outcome = execution.outcome
    stack.recorder.ended(call, outcome, now)
    if outcome.code is Code.OK:
        return outcome
    del outcome
    return result_of(execution, stack.name)


def future(stack: Stack, plan: Plan, call: Call, begin: Callable[[Execution], Any]) -> Any:
    """Start a call with a unary response, and return its call object.

    Args:
        stack: What protects it.
        plan: The stack's plan for the method.
        call: The call.
        begin: Starts an attempt and returns gRPC's call object.
    """
    return _start(stack, plan, call, begin, streaming=False)


def result_of_future(started: Any) -> Any:
    """Wait for what `future` has started, and return the response, or raise as blocking calls do.

    These raise an `RpcError` when the server ends a call with the code CANCELLED, and are over when
    a signal handler raises.
    """
    try:
        return started.result()
    except grpc.FutureCancelledError:
        raise started from None
    except BaseException:
        started.cancel()
        raise


def on_thread_of_grpc() -> bool:
    """Tell whether this is the thread of gRPC that calls back.

    Who waits there for a future waits for ever, as nobody else hears of its end.
    """
    target = getattr(threading.current_thread(), "_target", None)
    return getattr(target, "__module__", None) == _GRPC


def stream(stack: Stack, plan: Plan, call: Call, begin: Callable[[Execution], Any]) -> Any:
    """Start a call with a response stream, and return its call object; `begin` as in `future`.

    Raises:
        ConfigError: The stack races, which is for unary responses.
    """
    if plan.races:
        raise no_race_of_streams(stack, call)
    return _start(stack, plan, call, begin, streaming=True)


def no_race_of_streams(stack: Stack, call: Call) -> ConfigError:
    """Say that `&` has no meaning for a response stream, and what to do."""
    msg = (
        f"a race (&) needs a unary response, and {call.method.name} has a stream; "
        "route it to a stack without &"
    )
    return ConfigError(msg, path=stack.name)


def _start(
    stack: Stack,
    plan: Plan,
    call: Call,
    begin: Callable[[Execution], Any],
    *,
    streaming: bool,
) -> Any:
    execution = Execution(plan, call, call.deadline)
    try:
        step = execution.start(call.started)
    except BaseException as error:
        abandon(stack, execution, call.started, error)
        raise
    if step is FINISH:
        stack.recorder.ended(call, execution.outcome, call.started)
        outcome = execution.outcome
        if outcome.failed:
            return error_of(outcome, stack.name)
        return LocalAnswer(outcome.value, streaming=streaming)
    if step is ATTEMPT and not plan.repeats and not (streaming and plan.follows_messages):
        try:
            started = begin(execution)
        except BaseException as error:
            abandon(stack, execution, call.started, error)
            raise
        if not single_threaded(started):
            Watch(stack, execution, started, streaming=streaming)
            return started
        begin = partial(_same, started)
    driver = Driver(stack, execution, begin, streaming=streaming)
    driver.start(step)
    return ProtectedStream(stack, driver) if streaming else ProtectedCall(stack, driver)


def _same(started: Any, _: Execution) -> Any:
    """Begin with what has been started."""
    return started
