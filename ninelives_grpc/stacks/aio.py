"""Drive an execution in a task of the caller's loop; the same steps as `sync`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ninelives_grpc.call import Call, Method, serving
from ninelives_grpc.errors import AioTimedOut
from ninelives_grpc.outcome import Outcome, failed, succeeded
from ninelives_grpc.stacks.edge import inherited_deadline, result_of, serve
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, PENDING, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.stacks.stack import Stack

R = TypeVar("R")


async def call(stack: Stack, method: Method, function: Callable[[], Awaitable[R]]) -> R:
    """Await a coroutine function under the policies of a stack."""
    clock = stack.clock
    now = clock.now()
    made = Call(method, now, inherited=inherited_deadline(now))
    execution = Execution(stack.plan, made, None)

    async def attempt(row: Execution, now: float) -> Outcome:
        token = serve(method, row.deadline, clock.now)
        limit = clock.timeout(row.deadline)
        try:
            async with limit:
                value = await function()
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            if limit.expired() and isinstance(error, TimeoutError):
                details = f"{method.name} took longer than {clock.now() - now:.3g} s"
                return failed(AioTimedOut(details, stack=stack.name), 0.0)
            return failed(error, 0.0)
        finally:
            if token is not None:
                serving.reset(token)
            # It holds the task, which will hold the error that passes through this frame.
            del limit
        return succeeded(0.0, value)

    try:
        await drive(execution, attempt, clock, now)
    except BaseException:
        stack.recorder.ended(made, execution.outcome, clock.now())
        # It holds the error, whose frames hold the execution.
        del execution.outcome
        raise
    stack.recorder.ended(made, execution.outcome, clock.now())
    value: R = result_of(execution, stack.name, aio=True).value  # type: ignore[assignment]
    return value


async def drive(
    execution: Execution,
    attempt: Callable[[Execution, float], Awaitable[Outcome]],
    clock: Clock,
    now: float,
    begun: Step | None = None,
) -> float:
    """Do what the execution says until it is over; permits are given back whatever happens.

    Args:
        execution: The call.
        attempt: Makes one attempt, told the row it is for and the time; its duration is filled in.
        clock: Tells the time and waits.
        now: The time.
        begun: The step it has come to, if it has been started.

    Returns:
        The time at the end.
    """
    try:
        step = execution.start(now) if begun is None else begun
        return await go_on(execution, step, attempt, clock, now)
    except BaseException as error:
        execution.cancel(clock.now(), error)
        raise


async def go_on(
    execution: Execution,
    step: Step,
    attempt: Callable[[Execution, float], Awaitable[Outcome]],
    clock: Clock,
    now: float,
    begun: Step | None = None,
) -> float:
    """Go on from a step, as `drive` does from the start.

    Where that is a race, the first branch may have `begun`, at `now`, and come to a step of its
    own; with FINISH, that has been reported.
    """
    while step is not FINISH:
        if step is ATTEMPT:
            outcome = await attempt(execution.current(), now)
            ended = clock.now()
            outcome.duration = ended - now
            now = ended
            step = execution.settle(outcome, now)
            # This frame is one of those that its error has passed through.
            del outcome
        elif step is PAUSE:
            await pause(execution, clock)
            now = clock.now()
            step = execution.resume(now)
        else:
            step = await _race(execution, attempt, clock, now, begun)
            now, begun = clock.now(), None
    return now


async def pause(execution: Execution, clock: Clock) -> None:
    """Wait as long as the execution says; news may come from another thread."""
    row = execution.current()
    woken = asyncio.Event()
    wait = row.wait
    if wait is not None:
        loop = asyncio.get_running_loop()
        wait.wake = partial(_wake, loop, woken)
        if wait.ready:
            return
    await clock.wait_async(woken, row.until)


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    """Wake a task from any thread; its loop may be closed by now, and then nobody waits."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(woken.set)


async def _race(
    execution: Execution,
    attempt: Callable[[Execution, float], Awaitable[Outcome]],
    clock: Clock,
    now: float,
    begun: Step | None,
) -> Step:
    """Run each branch in a task; losers are cancelled, and not waited for."""
    row = execution.current()
    tasks: dict[asyncio.Task[float], Execution] = {}
    ended: deque[asyncio.Task[float]] = deque()
    woken = asyncio.Event()

    def has_ended(task: asyncio.Task[float]) -> None:
        ended.append(task)
        woken.set()

    step, started = PENDING, 0
    if begun is FINISH:
        started, begun = 1, None
    try:
        while step is PENDING:
            for branch in row.branches[started:]:
                at = clock.now() if begun is None else now
                task = asyncio.ensure_future(drive(branch, attempt, clock, at, begun))
                task.add_done_callback(has_ended)
                tasks[task] = branch
                started, begun = started + 1, None
            await clock.wait_async(woken, row.next_branch)
            woken.clear()
            if not ended:
                step = execution.branch_due(clock.now())
            while step is PENDING and ended:
                step = execution.branch_finished(tasks[ended.popleft()], clock.now())
    finally:
        ended.clear()
        for task, branch in tasks.items():
            task.remove_done_callback(has_ended)
            if task.done():
                _forget(branch, task)
            else:
                task.cancel()
                task.add_done_callback(partial(_forget, branch))
    return step


def _forget(branch: Execution, task: asyncio.Task[float]) -> None:
    """Let go of the outcome, whose error has passed through frames that hold the branch."""
    if branch.finished:
        del branch.outcome
    if not task.cancelled():
        # What a function of the application raised was the outcome of the branch.
        task.exception()
