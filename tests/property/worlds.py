"""Random stacks, and calls through them that are driven by hand, a step at a time."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import strategies as st

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConcurrencyBudget,
    Hedge,
    Method,
    RateLimit,
    Registry,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
    WindowBudget,
)
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import Code, cancelled, failed, succeeded
from ninelives_grpc.parameters import policy
from ninelives_grpc.policies.gate import Gate, Permit, Refusal
from ninelives_grpc.policies.hedge import HedgeFlow
from ninelives_grpc.policies.policy import Policy
from ninelives_grpc.policies.retry import RetryFlow
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from ninelives_grpc.testing import MemorySink, VirtualClock
from tests.unit.backend import StatusError


@policy
class Ledger(Policy):
    """Knows every permit that is out, and minds that each comes back once; refuses when told."""

    def live(self, address):
        return LedgerGate(self, address)


class LedgerGate(Gate[Ledger]):
    def __init__(self, policy, address):
        super().__init__(policy, address)
        self.out = set()
        self.refuses = False

    def admit(self, call, now, deadline):
        if self.refuses:
            return Refusal(self.name, "as told")
        permit = Permit()
        self.out.add(permit)
        return permit

    def settle(self, permit, outcome, now):
        self.out.remove(permit)


def broken(_):
    raise StatusError(Code.INTERNAL)


BUDGETS = st.sampled_from(
    [
        lambda: None,
        lambda: RetryBudget(capacity=4.0),
        lambda: ConcurrencyBudget(minimum=2),
        lambda: WindowBudget(minimum=0.1),
    ]
).map(lambda make: make())
POLICIES = st.one_of(
    st.builds(Ledger),
    st.builds(Timeout, st.floats(0.5, 20)),
    st.builds(
        Retry,
        st.integers(1, 4),
        initial_backoff=st.floats(0, 2),
        idempotent=st.booleans(),
        budget=BUDGETS,
    ),
    st.builds(
        Hedge,
        st.none() | st.floats(0, 3),
        max_hedges=st.integers(0, 3),
        minimum_samples=st.just(1),
        idempotent=st.sampled_from([True, True, False]),
        budget=BUDGETS,
    ),
    st.builds(
        CircuitBreaker,
        minimum_calls=st.integers(1, 4),
        confidence=st.just(0.0),
        half_open_permits=st.integers(1, 3),
        probe_lease=st.just(20.0),
    ),
    st.builds(
        Bulkhead,
        st.integers(1, 3),
        max_queue=st.integers(0, 3),
        max_wait=st.floats(0, 10),
        order=st.sampled_from(["fifo", "lifo", "priority"]),
    ),
    st.builds(RateLimit, st.floats(0.2, 10), st.floats(1, 5), max_wait=st.floats(0, 5)),
)
ENDS = st.sampled_from([lambda: Respond("local"), lambda: Respond(broken)]).map(lambda make: make())


def composed(parts):
    return st.one_of(
        st.builds(lambda a, b: a + b, parts, parts),
        st.builds(lambda a, b: a | b, parts, parts),
        st.builds(lambda a, b: a & b, parts, parts),
        st.builds(lambda a, b: (a | b) + a, parts, parts),
        st.builds(lambda a, b: (a + b) & a, parts, parts),
    )


EXPRESSIONS = st.recursive(st.one_of(POLICIES, POLICIES, POLICIES, ENDS), composed, max_leaves=7)
OUTCOMES = st.sampled_from(
    [
        lambda: succeeded(0.1),
        lambda: succeeded(0.1),
        lambda: failed(StatusError(), 0.1),
        lambda: failed(StatusError(), 0.1),
        lambda: failed(StatusError(Code.INTERNAL), 0.1),
        lambda: failed(StatusError(Code.NOT_FOUND), 0.1),
        lambda: failed(StatusError(Code.RESOURCE_EXHAUSTED, pushback=500), 0.1),
        lambda: failed(StatusError(pushback=-1), 0.1),
        lambda: failed(StatusError(Code.DEADLINE_EXCEEDED), 0.1),
        lambda: failed(StatusError(Code.ABORTED), 0.1),
        lambda: cancelled(0.1),
    ]
)


class World:
    """A stack, the time, and the calls that are under way."""

    def __init__(self, expression, kind_of_run=None):
        self.clock = VirtualClock(0.0)
        self.sink = MemorySink()
        self.kind_of_run = kind_of_run or Run
        inner = Stack("inner", expression, registry=Registry(), clock=self.clock, sink=self.sink)
        self.stack = Stack("outer", Ledger() + inner, registry=Registry(), clock=self.clock)
        self.runs = []
        self.policies = {**inner.policies, "": self.stack.policy("ledger")}
        budget = inner.policies.get("retry_budget")
        self.budgets = [] if budget is None else [budget]
        self.budgets += [
            live.budget
            for live in inner.policies.values()
            if isinstance(live, RetryFlow | HedgeFlow)
        ]

    @property
    def changeable(self):
        """The running policies that have parameters."""
        return [live for live in self.policies.values() if live.specs]

    def of(self, kind):
        return [live for live in self.policies.values() if isinstance(live.policy, kind)]

    def call(self, timeout, priority="normal", inherited=None):
        now = self.clock.now()
        deadline = None if timeout is None else now + timeout
        metadata = [("x-ninelives-priority", priority)]
        served = None if inherited is None else now + inherited
        call = Call(Method("m"), now, deadline, metadata, inherited=served)
        run = self.kind_of_run(self, Execution(self.stack.plan, call, deadline))
        self.runs.append(run)
        run.begin()
        return run

    @property
    def active(self):
        """What can be given a push: attempts that run, pauses that last, hedges that are due."""
        return [leaf for run in self.runs for leaf in run.leaves()]


class Run:
    """One call, or one branch of a race."""

    def __init__(self, world, execution, parent=None):
        self.world = world
        self.execution = execution
        self.parent = parent
        self.branches = []
        self.row = None
        self.rows = None
        self.step = None

    def leaves(self):
        if self.step in {Step.ATTEMPT, Step.PAUSE}:
            return [self]
        waits = self.step is Step.RACE and self.row.next_branch is not None
        own = [self] if waits else []
        return own + [leaf for branch in self.branches for leaf in branch.leaves()]

    @property
    def until(self):
        """When there is something to do for a pause or a race."""
        return self.row.next_branch if self.step is Step.RACE else self.execution.current().until

    def begin(self):
        self.go(self.execution.start(self.world.clock.now()))

    def end_attempt(self, outcome):
        self.go(self.execution.settle(outcome, self.world.clock.now()))

    def hedge(self):
        self.judged(self.execution.branch_due(self.world.clock.now()))

    def resume(self):
        self.go(self.execution.resume(self.world.clock.now()))

    def cancel(self):
        for branch in self.branches:
            branch.cancel()
        self.branches, self.rows = [], None
        self.execution.cancel(self.world.clock.now())
        self.step = Step.FINISH

    def go(self, step):
        self.step = step
        if step is Step.RACE:
            self.row = self.execution.current()
            self.branches, self.rows = [], self.row.branches
            self.start_branches()
        elif step is Step.FINISH:
            assert self.execution.finished
            if self.parent is not None:
                self.parent.branch_ended(self)
            else:
                self.world.stack.recorder.ended(
                    self.execution.call, self.execution.outcome, self.world.clock.now()
                )

    def branch_ended(self, branch):
        self.judged(self.execution.branch_finished(branch.execution, self.world.clock.now()))

    def start_branches(self):
        rows = self.rows
        # A branch may end at once, and the race with it; another one may begin then.
        while self.rows is rows and len(self.branches) < len(rows):
            branch = type(self)(self.world, rows[len(self.branches)], self)
            self.branches.append(branch)
            branch.begin()

    def judged(self, step):
        if step is Step.PENDING:
            self.start_branches()
            return
        losers, self.branches, self.rows = self.branches, [], None
        for loser in losers:
            if loser.step is not Step.FINISH:
                loser.cancel()
        self.go(step)
