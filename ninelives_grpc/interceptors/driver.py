"""Drive an execution by callbacks: for sync futures and streams, whose caller does not wait.

The end of an attempt comes in a thread of gRPC, the end of a pause in the scheduler's, a cancel in
any. They meet under one reentrant lock a call; what the application registered runs outside of it.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.interceptors.attempts import outcome_of
from ninelives_grpc.interceptors.follower import Follower
from ninelives_grpc.outcome import Outcome, cancelled
from ninelives_grpc.scheduler import scheduler
from ninelives_grpc.stacks.messages import ended_here, limits_of
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, PENDING, RACE, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.errors import LocalError
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.stack import Stack

_SLICE = 0.2
"""Seconds after which a thread that waits looks again."""
_LOGGER = logging.getLogger("ninelives_grpc")


class Driver:
    """One call, or one branch of a race, on its way.

    Attributes:
        execution: What it follows.
        attempt: gRPC's call object of the attempt under way, or of the last one; None before.
        finished: Whether it is over; `execution.outcome` then says how.
        changed: Notified whenever `attempt` or `finished` has changed.
    """

    def __init__(
        self,
        stack: Stack,
        execution: Execution,
        begin: Callable[[Execution], Any],
        parent: Driver | None = None,
        *,
        streaming: bool = False,
    ) -> None:
        """Prepare to follow an execution; `begin` starts an attempt and returns gRPC's object."""
        self.execution = execution
        self.attempt: Any = None
        self.finished = False
        self.lock: threading.RLock = parent.lock if parent else threading.RLock()
        self.changed = threading.Condition(self.lock)
        # Later attempts begin in threads that know nothing of the caller's context.
        self._context: contextvars.Context = (
            parent._context if parent else contextvars.copy_context()
        )
        self._judged: Any = None
        self._stack = stack
        self._begin = begin
        self._parent = parent
        self._branches: list[Driver] = []
        self._callbacks: list[Callable[[], None]] = []
        self._started = 0.0
        self._pause = 0
        self._call_off: Callable[[], None] = _nothing
        self._stay: Callable[[], None] = _nothing
        self._reading = False
        self._ended_while_reading = False
        self._first_message: float | None = None
        self._streaming = streaming
        self._follower: Follower | None = None
        self._verdict: Outcome | None = None
        self._reported = False

    def start(self, step: Step) -> None:
        """Take the first step, which the execution has already decided on.

        Raises:
            Exception: What gRPC raised instead of starting the first attempt.
        """
        try:
            with self.lock:
                self._go(step)
        except BaseException as error:
            with self.lock:
                self._abandon_branches()
                self.execution.cancel(self._stack.clock.now(), error)
                self._finish()
            raise
        finally:
            self._report()

    def cancel(self) -> bool:
        """End the call now; False when it is already over."""
        with self.lock:
            if self.finished:
                return False
            self._abandon()
            self._finish()
        self._report_elsewhere()
        return True

    def drop(self) -> None:
        """End a call that nobody holds any more."""
        self.cancel()

    def when_finished(self, callback: Callable[[], None]) -> bool:
        """Call back at the end; False, and no call, when that has passed."""
        with self.lock:
            if self.finished:
                return False
            self._callbacks.append(callback)
            return True

    def wait_for(self, happened: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until something has happened; the lock is held. False if it has not in time.

        In slices, as gRPC waits: a signal handler may cancel the call in this very thread between
        a look and the wait, and nobody would notify it again.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not happened():
            left = _SLICE if until is None else min(_SLICE, until - time.monotonic())
            if left <= 0:
                return False
            self.changed.wait(timeout=left)
        return True

    def next_attempt(self, after: Any) -> Any:
        """Wait for an attempt after the given one; None when the call ended without another."""
        with self.changed:
            self.wait_for(lambda: self.attempt is not after or self.finished)
            return None if self.attempt is after else self.attempt

    def read(self, attempt: Any) -> Any:
        """Return the first message of an attempt; from then on the call is committed.

        gRPC may report the end of the attempt while the message is on its way to the reader. The
        verdict then waits for the reader, so that what was delivered is not asked for again.
        """
        with self.lock:
            self._reading = True
        got = failed = False
        try:
            message = self.take(attempt)
            got = True
        except grpc.RpcError:
            failed = True
            raise
        finally:
            with self.lock:
                self._reading = False
                if got and self.attempt is attempt:
                    self.execution.call.committed = True
                    self._first_message = self._stack.clock.now()
                if failed or self._ended_while_reading:
                    # gRPC may never report an attempt with a message that can not be read.
                    self._ended_while_reading = False
                    self._judge(attempt)
            self._report()
        return message

    def failed(self, attempt: Any) -> None:
        """Hear from who reads that an attempt has failed, which gRPC may never report."""
        with self.lock:
            self._judge(attempt)
        self._report()

    def take(self, attempt: Any) -> Any:
        """Return the next message of an attempt, within the limits there are for that.

        Raises:
            LocalError: The attempt was ended by one of them.
        """
        follower = self._follower
        if follower is None:
            return next(attempt)
        try:
            return follower.take(attempt)
        except grpc.RpcError:
            if follower.error is None:
                raise
            raise follower.error from None

    def _fail(self, attempt: Any, error: LocalError) -> None:
        """End an attempt with an error of ours."""
        with self.lock:
            if attempt is not self.attempt or self.finished:
                return
            self._verdict = ended_here(error)
        attempt.cancel()

    def _go(self, step: Step) -> None:
        """Take steps until there is something to wait for; the lock is held."""
        while step is ATTEMPT or step is RACE:
            step = self._attempt() if step is ATTEMPT else self._race()
        if step is PAUSE:
            self._wait()
        elif step is FINISH:
            self._finish()

    def _attempt(self) -> Step:
        clock, row = self._stack.clock, self.execution.current()
        first = row.call.attempts == 1
        self._started = clock.now()
        try:
            attempt = self._begin(row) if first else self._context.run(self._begin, row)
        except Exception as error:
            if first:
                # It is the caller's, as on a bare channel.
                raise
            # The channel was closed in the meantime.
            return self.execution.settle(cancelled(0.0, error), clock.now())
        self.attempt = attempt
        self._follow(attempt)
        self.changed.notify_all()
        if attempt.add_callback(partial(self._ended, attempt)):
            return PENDING
        self._judged = attempt
        return self.execution.settle(self._outcome(attempt), clock.now())

    def _follow(self, attempt: Any) -> None:
        """Mind the messages of an attempt, if there are limits for them."""
        self._follower = None
        limits = limits_of(self.execution) if self._streaming else None
        if limits is not None:
            self._follower = Follower(limits, self._stack.clock, partial(self._fail, attempt))

    def _unfollow(self) -> None:
        if self._follower is not None:
            self._follower.stop()

    def _ended(self, attempt: Any) -> None:
        """Hear from gRPC that an attempt is over."""
        with self.lock:
            if self._reading:
                self._ended_while_reading = True
                return
            self._judge(attempt)
        self._report()

    def _judge(self, attempt: Any) -> None:
        if attempt is not self.attempt or attempt is self._judged or self.finished:
            return
        self._judged = attempt
        self._guard(lambda: self.execution.settle(self._outcome(attempt), self._stack.clock.now()))

    def _guard(self, decide: Callable[[], Step]) -> None:
        """Go on as decided; should a function of the application raise, end the call with that.

        This runs in a thread of gRPC or the scheduler, where nobody would hear of it.
        """
        try:
            self._go(decide())
        except Exception as error:
            _LOGGER.exception("a policy failed for %s", self.execution.call.method.name)
            self._abandon_branches()
            self.execution.cancel(self._stack.clock.now(), error)
            self._finish()

    def _outcome(self, attempt: Any) -> Outcome:
        ended = self._first_message or self._stack.clock.now()
        outcome, self._verdict = self._verdict or outcome_of(attempt, 0.0), None
        outcome.duration = ended - self._started
        self._unfollow()
        return outcome

    def _wait(self) -> None:
        row = self.execution.current()
        self._pause += 1
        resume = partial(self._resume, self._pause)
        self._call_off = self._stack.clock.wait_then(row.until, resume)
        wait, lifetime = row.wait, row.call.lifetime
        if lifetime is not None:
            self._stay = lifetime.on_close(self.cancel)
        if wait is not None:
            wait.wake = lambda: _discard(scheduler.later(0.0, resume))
            if wait.ready:
                wait.wake()
        self._unless_finished()

    def _unless_finished(self) -> None:
        """Wait for nothing if a signal handler has cancelled the call while that was prepared."""
        if self.finished:
            self._stop_waiting()

    def _resume(self, pause: int) -> None:
        with self.lock:
            if self.finished or pause != self._pause:
                return
            self._stop_waiting()
            self._pause += 1
            self._guard(lambda: self.execution.resume(self._stack.clock.now()))
        self._report()

    def _race(self, step: Step = PENDING) -> Step:
        """Start the branches that a race has and that do not run yet, until it is decided."""
        row = self.execution.current()
        while step is PENDING and len(self._branches) < len(row.branches):
            branch = Driver(self._stack, row.branches[len(self._branches)], self._begin, self)
            self._branches.append(branch)
            branch._go(branch.execution.start(self._stack.clock.now()))
            if branch.finished:
                step = self._branch_finished(branch)
        if step is PENDING:
            self._await_branch(row)
        return step

    def _await_branch(self, row: Execution) -> None:
        """See to it that a race is asked for another branch at its time."""
        self._stop_waiting()
        self._pause += 1
        if row.next_branch is None:
            return
        due = partial(self._branch_due, self._pause)
        delay = max(0.0, row.next_branch - self._stack.clock.now())
        self._call_off = scheduler.later(delay, due)
        if row.call.lifetime is not None:
            self._stay = row.call.lifetime.on_close(self._start_no_more)
        self._unless_finished()

    def _start_no_more(self) -> None:
        """Let gRPC end the attempts under way, as the channel was closed; none will follow."""
        with self.lock:
            if not all(branch.finished for branch in self._branches):
                self._call_off()
                return
        self.cancel()

    def _branch_due(self, pause: int) -> None:
        with self.lock:
            if self.finished or pause != self._pause:
                return
            self._guard(lambda: self._race(self.execution.branch_due(self._stack.clock.now())))
        self._report()

    def _branch_finished(self, branch: Driver) -> Step:
        """Judge the race; the losers are cancelled once it is decided."""
        row = self.execution.current()
        step = self.execution.branch_finished(branch.execution, self._stack.clock.now())
        if step is not PENDING:
            self._stop_waiting()
            self._pause += 1
            for other in self._branches:
                if other.execution is row.winner:
                    self.attempt = other.attempt
            self._abandon_branches()
        return step

    def _abandon_branches(self) -> None:
        for branch in self._branches:
            if not branch.finished:
                branch._abandon()
        self._branches = []

    def _abandon(self) -> None:
        """Cancel what is under way, and give back every permit."""
        self._abandon_branches()
        self._stop_waiting()
        self.execution.cancel(self._stack.clock.now())
        self.finished = True
        if self.attempt is not None:
            self.attempt.cancel()

    @property
    def followed(self) -> bool:
        """Whether messages are to be had from `take`, as there are limits for them."""
        return self._follower is not None

    def _finish(self) -> None:
        self.finished = True
        self._stop_waiting()
        self._unfollow()
        self.changed.notify_all()

    def _stop_waiting(self) -> None:
        self._call_off()
        self._stay()
        # They refer to this, and would keep it until the next garbage collection.
        self._call_off = self._stay = _nothing

    def _report_elsewhere(self) -> None:
        """Tell the application in another thread: the caller may hold a lock that it takes."""
        with self.lock:
            calls_back = self.finished and not self._reported and self._callbacks
        if calls_back:
            scheduler.later(0.0, self._report)
        else:
            self._report()

    def _report(self) -> None:
        """Tell whom it concerns that it is over, once; the lock is not held."""
        parent = self._parent
        with self.lock:
            if not self.finished or self._reported:
                return
            self._reported = True
            # It refers to the requests.
            self._begin = _never
            if parent is not None and not parent.finished and self in parent._branches:
                parent._guard(lambda: parent._race(parent._branch_finished(self)))
            callbacks, self._callbacks = self._callbacks, []
        if parent is not None:
            parent._report()
            return
        execution = self.execution
        self._stack.recorder.ended(execution.call, execution.outcome, self._stack.clock.now())
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _LOGGER.exception("a callback of the application failed")


def _never(_: Execution) -> None:
    """Begin no attempt: the call is over."""


def _nothing() -> None:
    """Call off nothing."""


def _discard(_: object) -> None:
    """Forget how to call it off."""
