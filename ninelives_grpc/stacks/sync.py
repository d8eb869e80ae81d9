"""Drive an execution in the thread of the caller."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from ninelives_grpc.call import Call, Method, serving
from ninelives_grpc.errors import TimedOut
from ninelives_grpc.outcome import Outcome, cancelled, failed, succeeded
from ninelives_grpc.stacks.edge import channel_closed, inherited_deadline, result_of, serve
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, PENDING, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.stacks.stack import Stack

R = TypeVar("R")


def call(stack: Stack, method: Method, function: Callable[[], R]) -> R:
    """Call a function under the policies of a stack."""
    clock = stack.clock
    now = clock.now()
    made = Call(method, now, inherited=inherited_deadline(now))
    execution = Execution(stack.plan, made, None)

    def attempt(row: Execution, _: float) -> Outcome:
        token = serve(method, row.deadline, clock.now)
        try:
            value = function()
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            return failed(error, 0.0)
        finally:
            if token is not None:
                serving.reset(token)
        late = 0.0 if row.deadline is None else clock.now() - row.deadline
        if late > 0:
            details = f"{method.name} returned {late:.3g} s after its time limit"
            return failed(TimedOut(details, stack=stack.name), 0.0)
        return succeeded(0.0, value)

    try:
        drive(execution, attempt, clock, now)
    except BaseException:
        stack.recorder.ended(made, execution.outcome, clock.now())
        # It holds the error, whose frames hold the execution.
        del execution.outcome
        raise
    stack.recorder.ended(made, execution.outcome, clock.now())
    value: R = result_of(execution, stack.name).value  # type: ignore[assignment]
    return value


def drive(
    execution: Execution,
    attempt: Callable[[Execution, float], Outcome],
    clock: Clock,
    now: float,
) -> float:
    """Do what the execution says until it is over; permits are given back whatever happens.

    Args:
        execution: The call.
        attempt: Makes one attempt, told the row it is for and the time; its duration is filled in.
        clock: Tells the time and waits.
        now: The time.

    Returns:
        The time at the end.
    """
    try:
        return go_on(execution, execution.start(now), attempt, clock, now)
    except BaseException as error:
        execution.cancel(clock.now(), error)
        raise


def go_on(
    execution: Execution,
    step: Step,
    attempt: Callable[[Execution, float], Outcome],
    clock: Clock,
    now: float,
) -> float:
    """Go on from a step, as `drive` does from the start."""
    while step is not FINISH:
        if step is ATTEMPT:
            child = execution.child
            outcome = attempt(execution if child is None else child.current(), now)
            ended = clock.now()
            outcome.duration = ended - now
            now = ended
            step = execution.settle(outcome, now)
            # This frame is one of those that its error has passed through.
            del outcome
        elif step is PAUSE:
            pause(execution, clock)
            now = clock.now()
            step = execution.resume(now)
        else:
            step = _race(execution, attempt, clock)
            now = clock.now()
    return now


def pause(execution: Execution, clock: Clock) -> None:
    """Wait as long as the execution says."""
    row = execution.current()
    woken = threading.Event()
    wait, lifetime = row.wait, row.call.lifetime
    if wait is not None:
        wait.wake = woken.set
        if wait.ready:
            return
    if lifetime is None:
        clock.wait(woken, row.until)
        return
    call_off = lifetime.on_close(woken.set)
    clock.wait(woken, row.until)
    call_off()
    if lifetime.closed:
        raise channel_closed()


def _race(
    execution: Execution, attempt: Callable[[Execution, float], Outcome], clock: Clock
) -> Step:
    """Run each branch in a thread.

    A function can not be stopped, so a loser runs to its end; it is not repeated, and teaches
    nothing.
    """
    ended: SimpleQueue[Execution] = SimpleQueue()
    decided, woken = threading.Event(), threading.Event()
    row = execution.current()

    def unless_decided(outcome: Outcome) -> Outcome:
        return cancelled() if decided.is_set() else outcome

    def attempt_undecided(row: Execution, now: float) -> Outcome:
        return cancelled() if decided.is_set() else unless_decided(attempt(row, now))

    def run(branch: Execution) -> None:
        # What a function of the application raises is the outcome of the branch.
        with contextlib.suppress(BaseException):
            drive(branch, attempt_undecided, clock, clock.now())
        ended.put(branch)
        woken.set()
        decided.wait()
        # Its error has passed through frames that hold the branch.
        del branch.outcome

    step, started = PENDING, 0
    try:
        while step is PENDING:
            for branch in row.branches[started:]:
                context = contextvars.copy_context()
                threading.Thread(
                    target=context.run, args=(run, branch), name="ninelives-race", daemon=True
                ).start()
                started += 1
            if row.next_branch is None:
                woken.wait()
            else:
                clock.wait(woken, row.next_branch)
            woken.clear()
            if ended.empty():
                step = execution.branch_due(clock.now())
            while step is PENDING and not ended.empty():
                step = execution.branch_finished(ended.get(), clock.now())
    finally:
        decided.set()
    return step
