"""What is to become of a hedged call, said a second time, and checked at every step of it."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

import math

from ninelives_grpc.outcome import Code, Kind
from ninelives_grpc.stacks.step import Step
from tests.property.worlds import Run, World


class HedgedWorld(World):
    """One hedge outside of all else, and what its calls have come to.

    Attributes:
        samples: How long calls took that were of interest to the quantile.
        started: Hedges that were started.
        won: Hedges that answered first.
    """

    def __init__(self, expression):
        super().__init__(expression, HedgedRun)
        self.samples = []
        self.started = self.won = 0

    def usual(self, policy):
        """Return the quantile of what calls took lately, or None as long as they are too few."""
        count = len(self.samples)
        if count < policy.minimum_samples:
            return None
        return sorted(self.samples)[max(1, math.ceil(policy.quantile * count)) - 1]

    def can_pay(self):
        budget = self.policies["retry_budget"]
        policy, tokens = budget.policy, budget._tokens
        enough = tokens >= policy.cost and tokens > policy.threshold * policy.capacity
        return enough or policy.cost == 0


class Hedges:
    """The attempts of one call, by the values in force when it came.

    Attributes:
        results: The outcomes of its attempts; None for those under way.
        due: When another one may start, or None.
        left: How many more may be paid.
        ready: Whether one is paid, and waits as long as the server asked.
        payments: How many were paid.
        over: What the call ends with, once that is clear.
    """

    def __init__(self, world, call):
        self.world = world
        self.policy = world.policies["hedge"].policy
        self.began = self.now
        limits = (call.deadline, call.inherited)
        self.limit = min((limit for limit in limits if limit is not None), default=math.inf)
        usual = self.policy.delay is None
        self.delay = world.usual(self.policy) if usual else self.policy.delay
        self.left = 0 if self.delay is None else self.policy.max_hedges
        self.results = [None]
        self.payments = 0
        self.due = self.began + self.delay if self.left else None
        self.ready = False
        self.over = None

    @property
    def now(self):
        return self.world.clock.now()

    def time_comes(self):
        if self.due is not None and self.now >= self.due:
            if self.ready or self.pays(0.0):
                self.launch()
            else:
                self.due = None

    def ends(self, number, outcome):
        self.results[number] = outcome
        if not outcome.failed or not (is_ours(outcome) or may_pass(outcome)):
            self.over = outcome
            self.world.won += number > 0 and not outcome.failed
            return
        if not is_ours(outcome) and (self.left or self.ready):
            self.hurry(outcome)
        if not self.ready and None not in self.results:
            # What the backend said comes before what was decided here.
            said = [each for each in self.results if not is_ours(each)]
            self.over = (said or self.results)[0]

    def hurry(self, failure):
        wait = failure.pushback or 0.0
        if not 0 <= wait <= self.policy.max_pushback:
            self.left, self.ready, self.due = 0, False, None
        elif self.ready:
            self.due = max(self.due, self.now + wait)
        elif not self.pays(wait):
            self.due = None
        elif wait:
            self.ready, self.due = True, self.now + wait
        else:
            self.launch()

    def pays(self, wait):
        if self.now + wait + self.delay > self.limit or not self.world.can_pay():
            self.left = 0
            return False
        self.left -= 1
        self.payments += 1
        return True

    def launch(self):
        self.ready = False
        self.results.append(None)
        self.due = self.now + self.delay if self.left else None
        self.world.started += 1


class HedgedRun(Run):
    """A call whose every step is compared with the model's; its branches have no model."""

    def begin(self):
        if self.parent is None:
            self.model = Hedges(self.world, self.execution.call)
        super().begin()

    def branch_ended(self, branch):
        self.model.ends(self.row.branches.index(branch.execution), branch.execution.outcome)
        super().branch_ended(branch)

    def hedge(self):
        self.model.time_comes()
        super().hedge()

    def judged(self, step):
        model = self.model
        if model.over is None:
            assert step is Step.PENDING
            assert len(self.row.branches) == len(model.results) <= 1 + model.policy.max_hedges
            assert self.row.next_branch == model.due
        else:
            assert step is Step.FINISH
            assert self.execution.outcome is model.over
            assert self.row.winner in self.row.branches
            assert self.row.winner.outcome is model.over
        super().judged(step)

    def go(self, step):
        if step is Step.RACE:
            race = self.execution.current()
            assert (len(race.branches), race.next_branch) == (1, self.model.due)
            assert self.model.left
        if step is Step.FINISH and self.parent is None:
            policy, outcome = self.model.policy, self.execution.outcome
            if policy.delay is None and outcome.kind is Kind.SUCCESS:
                samples = self.world.samples
                samples.append(self.model.now - self.model.began)
                del samples[: -policy.window_size]
        super().go(step)


def is_ours(outcome):
    """Tell whether an attempt came to nothing here: refused, or ended without an RPC error."""
    return outcome.refusal is not None or (outcome.code is Code.CANCELLED and not outcome.error)


def may_pass(outcome):
    if outcome.code is Code.RESOURCE_EXHAUSTED:
        return outcome.pushback is not None
    if outcome.code is Code.DEADLINE_EXCEEDED:
        return outcome.timed_out
    return outcome.code in {Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN}
