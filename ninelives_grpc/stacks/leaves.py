"""What stands at the end of a plan's row, where it is not simply an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_grpc.events import FallbackSkipped, FallbackUsed, RaceStarted, RaceWon
from ninelives_grpc.outcome import Code, Kind, failed, succeeded
from ninelives_grpc.policies.policy import Role
from ninelives_grpc.stacks.step import Step

if TYPE_CHECKING:
    from ninelives_grpc.events.event import About
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.policies.budget import BudgetFlow
    from ninelives_grpc.policies.policy import Address
    from ninelives_grpc.policies.respond import RespondFlow
    from ninelives_grpc.stacks.execution import Execution
    from ninelives_grpc.stacks.plan import Plan


class Leaf:
    """The end of a row.

    Attributes:
        plans: The rows that follow.
    """

    plans: tuple[Plan, ...] = ()

    def enter(self, execution: Execution, now: float) -> Step:
        """Begin with it."""
        raise NotImplementedError

    def after(self, execution: Execution, step: Step, now: float) -> Step:
        """Go on after a row that follows made a step."""
        raise NotImplementedError

    def finished(self, execution: Execution, branch: Execution, now: float) -> Step:
        """Take the result of one branch of a race."""
        raise NotImplementedError

    def due(self, execution: Execution, now: float) -> Step:
        """Add another branch to a race, if it is time."""
        raise NotImplementedError


class ChoiceLeaf(Leaf):
    """Two rows or more.

    Another row is an extra attempt, which the budget of the stack pays for, unless it goes to
    another target: what is down there is not burdened by it.
    """

    def __init__(
        self,
        plans: tuple[Plan, ...],
        address: Address,
        budget: BudgetFlow[Any] | None,
        *,
        feeds: bool,
    ) -> None:
        """Draw on a budget; `feeds` if nobody else tells it how attempts end."""
        self.plans = plans
        self._address = address
        self._count = address.emitter.counter_of(address.policy)
        self._budget = budget
        self._feeds = feeds

    def _pays(self, execution: Execution, plan: Plan, now: float) -> bool:
        """Pay for another row, if attempts on the same target are made in it."""
        budget = self._budget
        if budget is None or not plan.attempts or Role.TARGET in plan.roles:
            return True
        return execution.call.pay(budget, now)

    def _about(self, execution: Execution, now: float, reason: str = "") -> About:
        address, call = self._address, execution.call
        return address.stack, address.policy, call.method.name, now, call.attempts, reason

    def _tell(self, plan: Plan, outcome: Outcome) -> None:
        """Tell the budget how an attempt ended."""
        budget = self._budget
        if budget is None or not self._feeds or plan.leaf is not None:
            return
        if outcome.kind is Kind.FAILURE:
            budget.fail()
        elif outcome.kind is Kind.SUCCESS:
            budget.succeed()


class RespondLeaf(Leaf):
    """A local answer."""

    def __init__(self, respond: RespondFlow) -> None:
        self._respond = respond

    def enter(self, execution: Execution, now: float) -> Step:
        """Answer at once."""
        try:
            outcome = succeeded(0.0, self._respond.answer(execution.call, now))
            outcome.local = True
        except Exception as error:  # noqa: BLE001 - the user's function; the caller gets it
            outcome = failed(error, 0.0)
        return execution.settle(outcome, now)


class FallbackLeaf(ChoiceLeaf):
    """One row after the other, until one does not fail."""

    def enter(self, execution: Execution, now: float) -> Step:
        """Begin with the first row."""
        execution.sides = []
        return self._begin(execution, now)

    def after(self, execution: Execution, step: Step, now: float) -> Step:
        """Go on to the next row when one has failed."""
        if step is not Step.FINISH:
            return step
        outcome = execution.adopt()
        tried = execution.sides
        self._tell(self.plans[len(tried)], outcome)
        tried.append(outcome)
        if len(tried) < len(self.plans) and _to_be_replaced(outcome):
            reason = self._obstacle(execution, self.plans[len(tried)], now)
            self._report(execution, outcome, reason, now)
            if not reason:
                return self._begin(execution, now)
        if outcome.failed:
            outcome = first_of(tried, "the fallback")
        execution.sides = []
        return execution.settle(outcome, now)

    def _begin(self, execution: Execution, now: float) -> Step:
        child = execution.child = execution.spawn(self.plans[len(execution.sides)])
        return self.after(execution, child.start(now), now)

    def _obstacle(self, execution: Execution, plan: Plan, now: float) -> str:
        if execution.call.committed:
            return "committed"
        if not self._pays(execution, plan, now):
            return "budget"
        return ""

    def _report(self, execution: Execution, outcome: Outcome, reason: str, now: float) -> None:
        emitter = self._address.emitter
        kind = FallbackSkipped if reason else FallbackUsed
        self._count(kind)
        if emitter.sink is not None:
            emitter.tell(kind, *self._about(execution, now, reason), outcome.code.name)


class RaceLeaf(ChoiceLeaf):
    """All rows at once; the driver runs them, the first success ends it."""

    def enter(self, execution: Execution, now: float) -> Step:
        """Ask the driver to run the branches that the budget allows."""
        branches = [execution.spawn(self.plans[0])]
        for plan in self.plans[1:]:
            if not self._pays(execution, plan, now):
                break
            branches.append(execution.spawn(plan))
        execution.branches = branches
        execution.next_branch = None
        self._count(RaceStarted)
        if self._address.emitter.sink is not None:
            self._address.emitter.tell(RaceStarted, *self._about(execution, now), len(branches))
        return Step.RACE

    def finished(self, execution: Execution, branch: Execution, now: float) -> Step:
        """Take the result of one branch: the first success wins, the last failure ends it."""
        outcome = branch.outcome
        side = execution.branches.index(branch)
        self._tell(self.plans[side], outcome)
        if not outcome.failed:
            self._count(RaceWon)
            if self._address.emitter.sink is not None:
                self._address.emitter.tell(RaceWon, *self._about(execution, now), side)
            execution.winner = branch
            return execution.settle(outcome, now)
        # One that has succeeded in the meantime is yet to be reported, and will win.
        if not all(other.finished and other.outcome.failed for other in execution.branches):
            return Step.PENDING
        execution.winner = execution.branches[0]
        outcomes = [other.outcome for other in execution.branches]
        return execution.settle(first_of(outcomes, "the other side of the race"), now)


def _to_be_replaced(outcome: Outcome) -> bool:
    if outcome.code is Code.CANCELLED:
        return False
    return outcome.refusal is not None or outcome.kind is not Kind.SUCCESS


def first_of(outcomes: list[Outcome], what: str) -> Outcome:
    """Return the first outcome, with what became of the others as notes."""
    first, *others = outcomes
    first.notes += tuple(f"{what} failed too: {other.describe()}" for other in others)
    return first
