"""Drive a client call under asyncio, without a task as long as one attempt is all it takes.

That includes calls that may be hedged: until the hedge is due there is a timer, and no task.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.interceptors.aio_ends import hear_of_end, outcome_of
from ninelives_grpc.interceptors.aio_follower import AioFollower
from ninelives_grpc.outcome import Outcome, cancelled
from ninelives_grpc.stacks.aio import go_on
from ninelives_grpc.stacks.messages import ended_here, limits_of
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PENDING, RACE, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.stack import Stack

_LOGGER = logging.getLogger("ninelives_grpc")


class AioDriver:
    """One call on its way.

    The first attempt starts when the call is made, as on a bare channel, and its end is heard by
    callback. A task takes over only when that was not enough, or when a policy makes the call wait.

    Attributes:
        execution: What it follows.
        attempt: gRPC's call object of the attempt under way, or of the last one; None before.
        called_off: The attempt that was under way when the application cancelled the call, or None.
        finished: Whether it is over; `execution.outcome` then says how.
    """

    def __init__(
        self,
        stack: Stack,
        execution: Execution,
        begin: Callable[[Execution, float], Any],
        loop: asyncio.AbstractEventLoop,
        *,
        streaming: bool = False,
    ) -> None:
        """Prepare to follow an execution.

        Args:
            stack: What protects the call.
            execution: What to follow.
            begin: Told the row and the time, starts an attempt and returns gRPC's call object, or
                a coroutine for it.
            loop: The loop that the call belongs to.
            streaming: Whether there is a stream of responses.
        """
        self.stack = stack
        self.execution = execution
        self.attempt: Any = None
        self.called_off: Any = None
        self.finished = False
        self.loop = loop
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._first: Any = None
        self._begun: Any = None
        self._branch: Execution | None = None
        self._call_off: Callable[[], object] | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._changed: asyncio.Event | None = None
        self._reader: asyncio.Event | None = None
        self._unjudged: Any = None
        self._started = execution.call.started
        self._first_message: float | None = None
        self._streaming = streaming
        self._follower: AioFollower | None = None

    def start(self, step: Step, branch: Execution | None = None) -> None:
        """Take a first step that is no attempt, of the call or of the branch it begins with."""
        if branch is not None:
            self._branch = branch
            self._branch_step(step, self._started)
        elif step is FINISH:
            self._finish(self._started)
        else:
            self._go(step)

    def follow_first(
        self, attempt: Any, branch: Execution | None = None, *, sure: bool = False
    ) -> None:
        """Hear of the end of the first attempt, which is of the call or of its first branch.

        One of a branch is not shown, as another may win. `sure` if it is awaited itself, and can
        not fail to start.
        """
        self._first = attempt
        if branch is None:
            self.attempt = attempt
            if self._streaming:
                self.follow(attempt)
        else:
            self._branch, self._begun = branch, attempt
            due = self.execution.current().next_branch
            if due is not None:
                self._call_off = self.stack.clock.wait_in_loop(self.loop, due, self._branch_due)
        hear_of_end(attempt, self.first_ended, sure=sure and branch is None)

    def cancel(self) -> bool:
        """End the call now; False when it is already over."""
        if self.finished:
            return False
        now = self.stack.clock.now()
        self._cancel(now)
        self._finish(now)
        if self._task is not None:
            self._task.cancel()
        for attempt in (self._first, self.attempt):
            if attempt is not None and attempt.cancel():
                self.called_off = attempt
        return True

    def _cancel(self, now: float, error: BaseException | None = None) -> None:
        """Give back every permit."""
        if self._branch is not None:
            self._branch.cancel(now, error)
        self.execution.cancel(now, error)

    def when_finished(self, callback: Callable[[], None]) -> None:
        """Call back at the end, or at once when that has passed."""
        if self.finished:
            callback()
        else:
            self._callbacks.append(callback)

    async def wait(self) -> Outcome:
        """Wait for the end; being cancelled meanwhile cancels the call."""
        try:
            await self.until_finished()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.execution.outcome

    async def until_finished(self) -> None:
        """Wait for the end, without having a part in it."""
        while not self.finished:
            await self._news()

    async def next_attempt(self, after: Any) -> Any:
        """Wait for an attempt after the given one; None when the call ended without another."""
        try:
            while self.attempt is after and not self.finished:
                await self._news()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return None if self.attempt is after else self.attempt

    async def read(self, attempt: Any, message: Coroutine[Any, Any, Any]) -> Any:
        """Await the first message of an attempt; from then on the call is committed.

        gRPC may report the end of the attempt while the message is on its way to the reader. The
        verdict then waits for the reader, so that what was delivered is not asked for again.
        """
        reader = self._reader = asyncio.Event()
        try:
            first = await self.take(message)
            if first is not grpc.aio.EOF and self.attempt is attempt:
                self.execution.call.committed = True
                self._first_message = self.stack.clock.now()
        finally:
            reader.set()
            if self._reader is reader:
                self._reader = None
            if self._unjudged is not None:
                self.first_ended(self._unjudged)
        return first

    @property
    def followed(self) -> bool:
        """Whether messages are to be had from `take`, as there are limits for them."""
        return self._follower is not None

    async def take(self, message: Coroutine[Any, Any, Any]) -> Any:
        """Await the next message of the attempt, within the limits there are for that.

        Raises:
            LocalError: The attempt was ended by one of them.
        """
        follower = self._follower
        return await (message if follower is None else follower.take(message))

    def follow(self, attempt: Any) -> None:
        """Mind the messages of an attempt that streams them, if there are limits for that."""
        limits = limits_of(self.execution)
        self._follower = None if limits is None else AioFollower(limits, self.stack, attempt)

    def _outcome(self, attempt: Any, duration: float) -> Outcome:
        """Return how an attempt has ended that may have been followed."""
        error = None if self._follower is None else self._follower.verdict()
        outcome = outcome_of(attempt, duration) if error is None else ended_here(error)
        outcome.duration = duration
        return outcome

    def first_ended(self, attempt: Any) -> None:
        """Hear from gRPC that the first attempt is over; runs in a callback, and must not raise."""
        # Older versions of gRPC call back twice when a status that they had lost comes after all.
        if self.finished or self._task is not None:
            return
        if self._reader is not None and not attempt.cancelled():
            self._unjudged = attempt
            return
        now = self.stack.clock.now()
        took = (now if self._first_message is None else self._first_message) - self._started
        judge = outcome_of if self._follower is None else self._outcome
        branch = self._branch
        try:
            if branch is None:
                step = self.execution.settle(judge(attempt, took), now)
                if step is FINISH:
                    self._finish(now)
                else:
                    self._go(step)
            else:
                outcome, self._begun = judge(attempt, took), None
                outcome.value = self._first
                self._branch_step(branch.settle(outcome, now), now)
        except Exception as error:
            # A function of the application, such as the `on` of a `Retry`.
            _LOGGER.exception("a policy failed for %s", self.execution.call.method.name)
            self._cancel(now, error)
            self._finish(now)

    def _branch_step(self, step: Step, now: float) -> None:
        """Go on after a step of the first branch, as yet the only one."""
        branch = self._branch
        assert branch is not None
        if step is not FINISH:
            self._go(RACE, step)
            return
        step = self.execution.branch_finished(branch, now)
        if step is FINISH:
            self._finish(now)
        elif step is PENDING:
            self._go(RACE, FINISH)
        else:
            self._go(step)

    def _branch_due(self) -> None:
        """Have a task take over from the first attempt, as another is to start beside it."""
        if not self.finished and self._task is None:
            self._go(RACE, ATTEMPT)

    def _go(self, step: Step, begun: Step | None = None) -> None:
        self._task = self.loop.create_task(self._run(step, begun))
        self._task.add_done_callback(self._task_ended)
        lifetime = self.execution.call.lifetime
        if lifetime is not None:
            self._callbacks.append(lifetime.on_close(self.cancel))

    def _task_ended(self, _: asyncio.Task[None]) -> None:
        """See to it that a task which was cancelled before it began leaves nothing behind."""
        if not self.finished:
            self.cancel()

    async def _run(self, step: Step, begun: Step | None) -> None:
        clock = self.stack.clock
        now = self._started if begun is ATTEMPT else clock.now()
        try:
            await go_on(self.execution, step, self._attempt, clock, now, begun)
        except Exception as error:
            _LOGGER.exception("a policy failed for %s", self.execution.call.method.name)
            self._cancel(clock.now(), error)
        except BaseException as error:
            self._cancel(clock.now(), error)
            raise
        finally:
            self._task = None
            if not self.finished:
                self._finish(clock.now())

    async def _attempt(self, row: Execution, now: float) -> Outcome:
        """Make one attempt from a task, to its end."""
        attempt, self._begun = self._begun, None
        if attempt is None:
            try:
                attempt = self._begin(row, now)
                if inspect.isawaitable(attempt) and not isinstance(attempt, grpc.aio.Call):
                    attempt = await attempt
            except grpc.aio.UsageError:
                # The channel was closed in the meantime.
                return cancelled()
            except Exception as error:  # noqa: BLE001 - it is for who awaits the call
                return cancelled(0.0, error)
        if not self.execution.plan.races:
            self.attempt = attempt
            if self._streaming:
                self.follow(attempt)
            self._tell()
        try:
            ended = await self._end_of(attempt)
            if self._reader is not None:
                await self._reader.wait()
        except asyncio.CancelledError:
            attempt.cancel()
            raise
        at = self._first_message or self.stack.clock.now()
        outcome = self._outcome(ended, at - now)
        outcome.value = attempt
        return outcome

    async def _end_of(self, attempt: Any) -> Any:
        """Wait until an attempt is over, and return it, or what says that it never started."""
        over = self.loop.create_future()
        hear_of_end(attempt, lambda ended: None if over.done() else over.set_result(ended))
        return await over

    def _finish(self, now: float) -> None:
        """Tell whom it concerns that it is over."""
        self.finished = True
        if self._call_off is not None:
            self._call_off()
        execution = self.execution
        outcome = execution.outcome
        if self.execution.plan.races and not outcome.local and outcome.value is not None:
            self.attempt = outcome.value
        self.stack.recorder.ended(execution.call, outcome, now)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            # At once, as gRPC does: whoever waits for the end finds that they have been called.
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the application's, which it is told of
                message = f"a done callback failed for {execution.call.method.name}"
                self.loop.call_exception_handler({"message": message, "exception": error})
        if self._changed is not None:
            self._tell()

    async def _news(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def first_branch(execution: Execution, now: float) -> tuple[Execution | None, Step]:
    """Start the branch that a hedged call begins with; other races have more than one, and none."""
    branches = execution.current().branches
    if len(branches) > 1:
        return None, RACE
    branch = branches[0]
    try:
        return branch, branch.start(now)
    except BaseException as error:
        branch.cancel(now, error)
        raise
