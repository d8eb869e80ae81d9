"""One call on its way through a plan: a machine that says what to do next, and does nothing itself.

A driver asks `start`, does what the returned `Step` says, and reports back with `settle`, `resume`,
`branch_finished` or `cancel`, until the step is FINISH. The sync and the aio drivers, the servers
and the tests differ only in how they wait. Not thread-safe: a driver whose callbacks come from
several threads holds a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.outcome import Kind, Outcome, cancelled, refused
from ninelives_grpc.policies.gate import PERMIT, Refusal, Wait
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.policies.retry import Attempts
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.call import Call
    from ninelives_grpc.policies.retry import RetryFlow
    from ninelives_grpc.policies.timeout import TimeoutFlow
    from ninelives_grpc.stacks.plan import Plan

GATE, TIMEOUT, RETRY = Role.GATE, Role.TIMEOUT, Role.RETRY


class Execution:
    """The progress of one call through one plan.

    Attributes:
        plan: What it passes through.
        call: The call.
        deadline: Time by which the next attempt must be over, or None.
        target: Channel for the next attempt when it is not the usual one.
        until: End of a pause.
        wait: What may end a pause early, or None.
        outcome: How it ended, once it has.
        finished: Whether it has.
        child: The row after this one that is under way, when one is.
        sides: Outcomes of the rows of a fallback that have failed so far.
        branches: The rows of a race; more may be added while it lasts.
        next_branch: When the race may want another row, or None.
        winner: The row whose outcome a race that is over has taken.
    """

    __slots__ = (
        "_depth",
        "_entries",
        "branches",
        "call",
        "child",
        "deadline",
        "finished",
        "next_branch",
        "outcome",
        "plan",
        "sides",
        "target",
        "until",
        "wait",
        "winner",
    )
    branches: list[Execution]
    next_branch: float | None
    outcome: Outcome
    sides: list[Outcome]
    until: float
    winner: Execution

    def __init__(self, plan: Plan, call: Call, deadline: float | None, target: Any = None) -> None:
        self.plan = plan
        self.call = call
        self.deadline = deadline
        self.target = target
        # How many layers have been entered, and what leaving each of them needs: its permit, the
        # deadline outside of it, … A list of fixed length, as this is on the path of every call.
        self._depth = 0
        self._entries: list[Any] = [None] * plan.depth
        self.wait: Wait | None = None
        self.child: Execution | None = None
        self.finished = False

    def start(self, now: float) -> Step:
        """Enter the layers that are left, until one says no or wait, and then the leaf."""
        plan, call, entries, depth = self.plan, self.call, self._entries, self._depth
        for role, layer, admit in plan.entering[depth:] if depth else plan.entering:
            if role is GATE:
                verdict = admit(call, now, self.deadline)
                if verdict is not PERMIT and not verdict.admitted:
                    return self._held_up(verdict, now)
                entries[depth] = verdict
            elif role is RETRY:
                if layer.budget.counts_calls:
                    layer.budget.begin(now)
                entries[depth] = layer.policy
            elif role is TIMEOUT:
                refusal = layer.hopeless(call, now) if call.peer is not None else None
                if refusal is not None:
                    return self._held_up(refusal, now)
                entries[depth] = outer = self.deadline
                own = now + layer.policy.seconds
                if call.inherited is not None:
                    own = layer.within(call.inherited, own)
                self.deadline = own if outer is None or own < outer else outer
            else:
                entries[depth] = self.target
                self.target = layer.channel
            self._depth = depth = depth + 1
        leaf = plan.leaf
        if leaf is not None:
            return leaf.enter(self, now)
        call.attempts += 1
        return ATTEMPT

    def settle(self, outcome: Outcome, now: float) -> Step:  # noqa: C901, PLR0912 - a hot path
        """Go on after an attempt ended: leave the layers, inside out, until one wants another."""
        child = self.child
        if child is not None:
            return self._after(child.settle(outcome, now), now)
        leaving, entries, depth = self.plan.leaving, self._entries, self._depth
        while depth:
            self._depth = depth = depth - 1
            role, layer, leave = leaving[depth]
            if role is None:
                continue
            entry = entries[depth]
            if role is GATE:
                leave(entry, outcome, now)
            elif role is RETRY:
                if outcome.kind is Kind.SUCCESS and outcome.error is None:
                    # A full budget is the normal case.
                    if not layer.budget.full:
                        layer.budget.succeed()
                else:
                    delay, outcome = self._repeat(layer, entry, outcome, now)
                    if delay is not None:
                        self._depth = depth + 1
                        self.until = now + delay
                        return PAUSE if delay else self.start(now)
                # An earlier error in it would hold on to the frames that hold on to this.
                entries[depth] = None
                if layer.budget.counts_calls:
                    layer.budget.end()
            elif role is TIMEOUT:
                if outcome.error is not None or self.call.peer is not None:
                    self._leave_timeout(layer, entry, outcome, now)
                self.deadline = entry
            else:
                self.target = entry
        self.outcome = outcome
        self.finished = True
        return FINISH

    def resume(self, now: float) -> Step:
        """Go on after a pause, or find that it is not over, or that the call is."""
        if self.finished:
            return FINISH
        child = self.child
        if child is not None:
            return self._after(child.resume(now), now)
        wait = self.wait
        if wait is None:
            return PAUSE if now < self.until else self.start(now)
        gate: Any = self.plan.layers[self._depth]
        verdict = gate.claim(wait, self.call, now)
        if verdict is wait:
            return PAUSE
        self.wait = None
        if not verdict.admitted:
            return self._held_up(verdict, now)
        self._entries[self._depth] = verdict
        self._depth += 1
        return self.start(now)

    def branch_finished(self, branch: Execution, now: float) -> Step:
        """Go on after one of the `branches` of a race has finished."""
        child = self.child
        if child is not None:
            return self._after(child.branch_finished(branch, now), now)
        assert self.plan.leaf is not None
        return self.plan.leaf.finished(self, branch, now)

    def branch_due(self, now: float) -> Step:
        """Go on when the time for another branch of a race has come, or find that it has not."""
        child = self.child
        if child is not None:
            return self._after(child.branch_due(now), now)
        assert self.plan.leaf is not None
        return self.plan.leaf.due(self, now)

    def cancel(self, now: float, error: BaseException | None = None) -> None:
        """End the call here and now: every permit is given back, and nothing is learned.

        The driver cancels what runs, and the `branches` of a race. Does nothing to a finished call.
        """
        if self.finished:
            return
        if self.child is not None:
            self.child.cancel(now, error)
            self.child = None
        if self.wait is not None:
            gate: Any = self.plan.layers[self._depth]
            gate.abandon(self.wait, now)
            self.wait = None
        self.settle(cancelled(now - self.call.started, error), now)

    def current(self) -> Execution:
        """Return the innermost row under way: its deadline, target, pause and branches count."""
        execution = self
        while execution.child is not None:
            execution = execution.child
        return execution

    def spawn(self, plan: Plan) -> Execution:
        """Make the execution of a row that follows this one."""
        return type(self)(plan, self.call, self.deadline, self.target)

    def hedge(self, plan: Plan) -> Execution:
        """Make the execution of a row that another one is doing already."""
        return HedgeExecution(plan, self.call, self.deadline, self.target)

    @property
    def innermost(self) -> Any:
        """What leaving the innermost layer needs: its permit, when it is a gate."""
        return self._entries[-1]

    def under_way(self) -> Iterator[tuple[Any, Any]]:
        """Go through the layers around the attempt, each with what leaving it needs."""
        row: Execution | None = self
        while row is not None:
            yield from zip(row.plan.layers, row._entries[: row._depth], strict=False)
            row = row.child

    def adopt(self) -> Outcome:
        """Take the outcome of the row that was under way."""
        assert self.child is not None
        outcome = self.child.outcome
        del self.child.outcome
        self.child = None
        return outcome

    def _held_up(self, verdict: Refusal | Wait, now: float) -> Step:
        if isinstance(verdict, Wait):
            self.wait = verdict
            self.until = verdict.until
            return PAUSE
        return self.settle(refused(verdict), now)

    def _after(self, step: Step, now: float) -> Step:
        assert self.plan.leaf is not None
        return self.plan.leaf.after(self, step, now)

    def _repeat(
        self, layer: RetryFlow, entry: Any, outcome: Outcome, now: float
    ) -> tuple[float | None, Outcome]:
        """Return the wait before another attempt, or None, and the outcome if it stays at this."""
        attempts = entry if type(entry) is Attempts else Attempts(entry)
        if outcome.kind is Kind.FAILURE:
            layer.budget.fail()
        elif outcome.kind is Kind.SUCCESS:
            layer.budget.succeed()
        delay = layer.next_delay(attempts, outcome, self.call, self.deadline, now)
        if delay is not None:
            self._entries[self._depth] = attempts
            self.call.delay += delay
        elif outcome.refusal is not None and attempts.failure is not None:
            outcome = _original(attempts.failure, outcome)
        return delay, outcome

    def _leave_timeout(
        self, layer: TimeoutFlow, outer: float | None, outcome: Outcome, now: float
    ) -> None:
        assert self.deadline is not None
        if outcome.error is not None:
            layer.ended(self.call, outcome, self.deadline, outer, now)
        elif outcome.refusal is None:
            layer.learn(self.call, outcome)


class HedgeExecution(Execution):
    """An attempt that is only worth making at once: it does not wait for leave."""

    __slots__ = ()

    def _held_up(self, verdict: Refusal | Wait, now: float) -> Step:
        if isinstance(verdict, Wait):
            gate: Any = self.plan.layers[self._depth]
            gate.abandon(verdict, now)
            verdict = Refusal(gate.name, f"{gate.path} would make a hedge wait")
        return super()._held_up(verdict, now)


def _original(failure: Outcome, refusal: Outcome) -> Outcome:
    """Give the caller the error that the backend sent, not that repeating it was refused here."""
    failure.notes += (f"not repeated: {refusal.describe()}",)
    return failure
