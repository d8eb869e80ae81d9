"""The end of a row that is done again while it is under way: a race whose branches start late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from ninelives_grpc.outcome import STOP_PUSHBACK, Code
from ninelives_grpc.stacks.leaves import Leaf, first_of
from ninelives_grpc.stacks.step import FINISH, PENDING, RACE, Step

if TYPE_CHECKING:
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.policies.hedge import HedgeFlow, Hedging
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.plan import Plan


class HedgeLeaf(Leaf):
    """The same row again and again, until one of them succeeds.

    The running hedge is the innermost layer of the row before, and its permit says how far the
    hedges of this call have come.

    Attributes:
        flow: The running hedge.
    """

    def __init__(self, flow: HedgeFlow, plan: Plan) -> None:
        self.plans = (plan,)
        self.flow = flow

    def enter(self, execution: Execution, now: float) -> Step:
        """Start the first attempt, with a time for the next if there may be one."""
        hedging: Hedging = execution.innermost
        first = execution.spawn(self.plans[0])
        if not hedging.left:
            execution.child = first
            return self.after(execution, first.start(now), now)
        execution.branches = [first]
        execution.next_branch = now + hedging.delay
        return RACE

    def after(self, execution: Execution, step: Step, now: float) -> Step:
        """End with the only attempt, when it is not hedged."""
        return execution.settle(execution.adopt(), now) if step is FINISH else step

    def due(self, execution: Execution, now: float) -> Step:
        """Start another attempt if the time has come."""
        at = execution.next_branch
        if at is not None and now >= at:
            hedging: Hedging = execution.innermost
            call = execution.call
            if hedging.paid or self.flow.pay(hedging, call, execution.deadline, 0.0, now):
                self._launch(execution, hedging, "", now)
            else:
                execution.next_branch = None
        return PENDING

    def finished(self, execution: Execution, branch: Execution, now: float) -> Step:
        """Take the result of one attempt: a success or a fatal error ends it all."""
        outcome, call, hedging = branch.outcome, execution.call, execution.innermost
        branches = execution.branches
        number = branches.index(branch)
        if not outcome.failed and number:
            self.flow.win(call, number, now)
        if not _ours(outcome):
            if not outcome.failed or not self.flow.may_pass(hedging, outcome):
                execution.winner = branch
                return execution.settle(outcome, now)
            if hedging.left or hedging.paid:
                self._hurry(execution, hedging, outcome, now)
        elif number:
            self.flow.refuse(call, "refused", now)
        # One that has succeeded in the meantime is yet to be reported, and will win.
        if hedging.paid or not all(each.finished and each.outcome.failed for each in branches):
            return PENDING
        # What the backend said comes before what a policy of ours did.
        ranked = sorted(branches, key=lambda each: _ours(each.outcome))
        execution.winner = ranked[0]
        return execution.settle(first_of([each.outcome for each in ranked], "the hedge"), now)

    def _hurry(self, execution: Execution, hedging: Hedging, failure: Outcome, now: float) -> None:
        """Make another attempt at once, or as soon as the server allows."""
        flow, call = self.flow, execution.call
        wait = failure.pushback or 0.0
        if wait == STOP_PUSHBACK or wait > hedging.policy.max_pushback:
            execution.next_branch = None
            flow.give_up(hedging, call, "pushback", now)
        elif hedging.paid:
            assert execution.next_branch is not None
            execution.next_branch = max(execution.next_branch, now + wait)
        elif not flow.pay(hedging, call, execution.deadline, wait, now):
            execution.next_branch = None
        elif wait:
            hedging.paid = True
            execution.next_branch = now + wait
        else:
            self._launch(execution, hedging, failure.code.name, now)

    def _launch(self, execution: Execution, hedging: Hedging, code: str, now: float) -> None:
        number = len(execution.branches)
        self.flow.start(hedging, execution.call, number, code, now)
        execution.branches.append(execution.hedge(self.plans[0]))
        execution.next_branch = now + hedging.delay if hedging.left else None


def _ours(outcome: Outcome) -> bool:
    """Tell whether an attempt came to nothing here, so that the others may yet succeed.

    A policy refused it, a function of the application raised in a policy, or a channel is closed.
    """
    if outcome.refusal is not None:
        return True
    return outcome.code is Code.CANCELLED and not isinstance(outcome.error, grpc.RpcError)
