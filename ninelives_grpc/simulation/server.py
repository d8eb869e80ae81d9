"""A server in virtual time: the real policies of its stack, a queue, and workers behind them."""

from __future__ import annotations

from collections import deque
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING, Any

import grpc

from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, Kind, Outcome, cancelled, refused
from ninelives_grpc.policies.gate import PERMIT, Refusal, Wait
from ninelives_grpc.simulation.entrance import UNSEEN, Job, entrance_of, new, peer
from ninelives_grpc.simulation.sections import QueueOrder
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from ninelives_grpc.routes import Routes
    from ninelives_grpc.simulation.entrance import Answer, Pairs
    from ninelives_grpc.simulation.scenario import Scenario
    from ninelives_grpc.simulation.tally import Tally
    from ninelives_grpc.simulation.timeline import Timeline

_SUCCESS, _OK = Kind.SUCCESS, Code.OK
_UNREACHED = 0.001
"""Seconds after which a call to a server that is gone fails."""
AGAIN = 1e-6
"""Seconds after which a gate is asked again that lets a call wait on at the end of its wait."""


class SimulatedError(grpc.RpcError):
    """The error of a call that the simulated server has let fail."""


ERROR = SimulatedError()


class SimulatedServer:
    """Workers that each do one call at a time, behind one queue.

    Attributes:
        workers: How many there are now.
        busy: How many of them work.
        queue: Calls that wait for one.
        waiting: Calls that wait for a policy.
        slower: How many times as long work takes now.
        added: Seconds that answers are on their way now.
        errors: Share of the calls that fail now.
        dead: Whether every call fails at once now.
        debt: Seconds of work by refusals that no worker has had the time for yet.
    """

    def __init__(
        self,
        scenario: Scenario,
        routes: Routes | None,
        timeline: Timeline,
        tally: Tally,
        random: Random,
        draw: Callable[[], float],
    ) -> None:
        """Stand idle."""
        self.workers = scenario.server.workers
        self.busy = 0
        self.queue: deque[Job] = deque()
        self.waiting = 0
        self.slower = 1.0
        self.added = 0.0
        self.errors = 0.0
        self.dead = False
        self.debt = 0.0
        self._refusal = scenario.server.refusal
        self._skips = scenario.server.skips_expired
        self._next = (
            self.queue.popleft if scenario.server.order is QueueOrder.FIFO else self.queue.pop
        )
        self._timeline = timeline
        self._events = timeline.events
        self._numbers = timeline.numbers
        self._tally = tally
        self._chance = random.random
        self._draw = draw
        self._entrances = [entrance_of(caller, routes) for caller in scenario.callers]

    def stall(self, seconds: float) -> None:
        """Let all work stand still for a while."""
        self._timeline.postpone((self._done, self._paid), seconds)

    def receive(
        self,
        caller: int,
        deadline: float | None,
        answer: Answer | None = None,
        pairs: Pairs = None,
        took: float = 0.0,
    ) -> None:
        """Let a call come in.

        Args:
            caller: Number of its kind.
            deadline: When it is of no more use, or None.
            answer: Takes the outcome, at the time when the caller has it; None only counts it.
            pairs: Metadata, in place of what calls of the kind bring.
            took: Seconds that it takes a worker; 0 draws.
        """
        now = self._timeline.time
        self._tally.attempts += 1
        entrance = self._entrances[caller]
        gate = entrance.gate
        if gate is None and entrance.plan is None and not self.dead:
            self._accept(new(Job, (now, deadline, UNSEEN, PERMIT, None, caller, answer, took, now)))
            return
        call = Call(entrance.method, now, deadline, pairs or entrance.pairs, None, None, peer)
        if self.dead:
            job = new(Job, (now, deadline, call, PERMIT, None, caller, answer, took, now))
            self._timeline.at(now + _UNREACHED, self._unreached, job)
        elif gate is not None:
            verdict = gate.admit(call, now, deadline)
            job = new(Job, (now, deadline, call, verdict, None, caller, answer, took, now))
            if verdict.admitted:
                if self.busy < self.workers and not self.queue:
                    self._begin(job)
                else:
                    self.queue.append(job)
            elif isinstance(verdict, Refusal):
                if answer is None and entrance.stack is None and verdict.failure is None:
                    # As `_refuse`: under overload that is most of what happens.
                    self._tally.refused[caller] += 1
                    self._charge()
                else:
                    self._refuse(job, refused(verdict))
            else:
                self._hold(job)
        elif entrance.plan is not None:
            execution = Execution(entrance.plan, call, deadline)
            job = new(Job, (now, deadline, call, PERMIT, execution, caller, answer, took, now))
            self._go_on(job, execution.start(now))

    def fill(self) -> None:
        """Give work to all workers that are free."""
        while self.queue and self.busy < self.workers:
            self._begin(self._next())

    def _accept(self, job: Job) -> None:
        if self.busy < self.workers and not self.queue:
            self._begin(job)
        else:
            self.queue.append(job)

    def _begin(self, job: Job) -> None:
        now = self._timeline.time
        if self._skips and job.deadline is not None and now >= job.deadline:
            self._give_up(job)
            return
        took = job.took or self._draw() * self._entrances[job.caller].slower
        took *= self.slower
        if self.debt:
            # A part to each worker in turn, as each would have had some of the refusals.
            took += self._pay()
        self.busy += 1
        self._put_to_work(job, took)

    def _put_to_work(self, job: Job, took: float) -> None:
        """Have a call done after so much work."""
        time = self._timeline.time
        heappush(self._events, (time + took, next(self._numbers), self._done, job))

    def _pay(self) -> float:
        paid = self.debt / self.workers
        if paid < self._refusal:
            paid = self.debt
        self.debt -= paid
        return paid

    def _done(self, job: Job) -> None:
        self.busy -= 1
        if self.added:
            self._timeline.at(self._timeline.time + self.added, self._finish, job)
        else:
            self._finish(job)
        if self.queue and self.busy < self.workers:
            if self._skips:
                self.fill()
            else:
                self._begin(self._next())

    def _paid(self, _: None) -> None:
        self.busy -= 1
        self.fill()

    def _finish(self, job: Job) -> None:
        """End a call that was worked on."""
        now, caller = self._timeline.time, job.caller
        latency = now - job.came
        if self.errors and self._chance() < self.errors:
            self._fail(job)
            return
        if job.execution is not None and self._over_time(job, job.execution):
            return
        # Policies are told how long an attempt took, and not how long they let it wait.
        outcome = Outcome(_SUCCESS, _OK, now - job.begun)
        entrance = self._entrances[caller]
        if entrance.gate is not None and entrance.stack is None:
            # As `_settle`, without a call of it.
            entrance.gate.settle(job.permit, outcome, now)  # type: ignore[arg-type]
        elif entrance.plan is not None or entrance.stack is not None:
            self._settle(job, outcome, now)
        if job.answer is not None:
            job.answer(outcome)
            return
        tally, deadline = self._tally, job.deadline
        tally.latencies.append(latency)
        if deadline is None or now <= deadline:
            tally.good[caller] += 1
        else:
            tally.late[caller] += 1

    def _fail(self, job: Job) -> None:
        """End a call with an error."""
        now = self._timeline.time
        outcome = Outcome(Kind.FAILURE, Code.UNAVAILABLE, now - job.begun, ERROR)
        self._settle(job, outcome, now)
        self._tell_failure(job, outcome)

    def _unreached(self, job: Job) -> None:
        """End a call to a server that is gone: no policy of it has seen the call."""
        self._tell_failure(job, Outcome(Kind.FAILURE, Code.UNAVAILABLE, _UNREACHED, ERROR))

    def _tell_failure(self, job: Job, outcome: Outcome) -> None:
        if job.answer is not None:
            job.answer(outcome)
        else:
            self._tally.failed[job.caller] += 1

    def _settle(self, job: Job, outcome: Outcome, now: float) -> None:
        entrance = self._entrances[job.caller]
        if job.execution is not None:
            job.execution.settle(outcome, now)
        elif entrance.gate is not None:
            permit: Any = job.permit
            entrance.gate.settle(permit, outcome, now)
        if entrance.stack is not None:
            job.call.attempts = 1
            entrance.stack.recorder.ended(job.call, outcome, now)

    def _over_time(self, job: Job, execution: Execution) -> bool:
        """End a call that has taken longer than a `Timeout` of the server allows, if it has."""
        limit, now = execution.current().deadline, self._timeline.time
        if limit is None or now <= limit or limit == job.deadline:
            return False
        outcome = Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, now - job.begun, ERROR)
        self._settle(job, outcome, now)
        self._tell_late(job)
        return True

    def _give_up(self, job: Job) -> None:
        """Do not begin a call whose deadline is over."""
        now = self._timeline.time
        self._settle(job, cancelled(now - job.begun), now)
        self._tell_late(job)

    def _tell_late(self, job: Job) -> None:
        if job.answer is None:
            self._tally.late[job.caller] += 1
        else:
            took = self._timeline.time - job.came
            job.answer(Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, took, ERROR))

    def _refuse(self, job: Job, outcome: Outcome) -> None:
        """Let a refusal take its time of a worker, and tell the caller."""
        now = self._timeline.time
        refusal = outcome.refusal
        if refusal is None:
            # A `Fault` that lets a call fail says so in this way.
            self._tell_failure(job, outcome)
            return
        entrance = self._entrances[job.caller]
        if entrance.stack is not None:
            entrance.stack.recorder.ended(job.call, outcome, now)
        self._charge()
        if job.answer is None:
            self._tally.refused[job.caller] += 1
            return
        told = Outcome(Kind.IGNORED, refusal.code, self._refusal, ERROR, refusal.retry_after)
        self._timeline.at(now + self._refusal, job.answer, told)

    def _charge(self) -> None:
        """Have a refusal take a worker's time: at once, or of who has work next."""
        if self.busy >= self.workers:
            self.debt += self._refusal
        elif self._refusal:
            self.busy += 1
            self._timeline.at(self._timeline.time + self._refusal, self._paid)

    def _hold(self, job: Job) -> None:
        """Have a call wait for a policy."""
        wait = job.permit
        assert isinstance(wait, Wait)
        self.waiting += 1
        wait.wake = partial(self._woken, job)
        until = wait.until
        if wait.ready or until < self._timeline.time:
            until = self._timeline.time
        self._timeline.at(until, self._resume, job)

    def _woken(self, job: Job) -> None:
        self._timeline.at(self._timeline.time, self._resume, job)

    def _resume(self, job: Job) -> None:
        """Ask a policy again that has let a call wait."""
        now, wait, execution = self._timeline.time, job.permit, job.execution
        assert isinstance(wait, Wait)
        if wait.wake is None:
            # It was woken before its time was over, or the other way round.
            return
        if execution is not None:
            step = execution.resume(now)
            waits_on = execution.current().wait is wait
        else:
            gate = self._entrances[job.caller].gate
            assert gate is not None
            verdict = gate.claim(wait, job.call, now)
            waits_on = verdict is wait
        if waits_on:
            if now >= wait.until:
                self._timeline.at(now + AGAIN, self._resume, job)
            return
        wait.wake = None
        self.waiting -= 1
        if execution is not None:
            self._go_on(job, step)
        elif isinstance(verdict, Refusal):
            self._refuse(job, refused(verdict))
        else:
            self._accept(job._replace(permit=verdict, begun=now))

    def _go_on(self, job: Job, step: Step) -> None:
        """Do what the execution of a call says."""
        execution = job.execution
        assert execution is not None
        if step is ATTEMPT:
            now = self._timeline.time
            self._accept(job if job.begun == now else job._replace(begun=now))
        elif step is not FINISH:
            # A server's stack pauses for nothing but a gate.
            wait = execution.current().wait
            assert wait is not None
            self._hold(job._replace(permit=wait))
        elif execution.outcome.refusal is not None:
            self._refuse(job, execution.outcome)
        else:
            self._timeline.at(self._timeline.time, self._answer, job)

    def _answer(self, job: Job) -> None:
        """Give the answer that a policy has made up, which takes no worker."""
        assert job.execution is not None
        outcome = job.execution.outcome
        if job.answer is not None:
            job.answer(outcome)
        elif outcome.failed:
            self._tally.failed[job.caller] += 1
        else:
            self._tally.latencies.append(self._timeline.time - job.came)
            self._tally.good[job.caller] += 1
