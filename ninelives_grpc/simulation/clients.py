"""Clients in virtual time: the real policies of their stacks, with retries, waits and deadlines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.outcome import Code, Kind, Outcome
from ninelives_grpc.simulation.server import AGAIN, ERROR
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.plan import Plan
from ninelives_grpc.stacks.step import ATTEMPT, FINISH, PAUSE, PENDING, Step

if TYPE_CHECKING:
    from random import Random

    from ninelives_grpc.routes import Routes
    from ninelives_grpc.simulation.scenario import Scenario
    from ninelives_grpc.simulation.sections import Caller
    from ninelives_grpc.simulation.server import SimulatedServer
    from ninelives_grpc.simulation.tally import Tally
    from ninelives_grpc.simulation.timeline import Timeline
    from ninelives_grpc.stacks.stack import Stack

_LEAST = 1e-4
"""Seconds from one call of a client to its next at least, as no program calls without an end."""
_BARE = Plan((), None)
"""No policy at all."""


class MadeCall:
    """A call of a client that is under way, or one branch of its race.

    Attributes:
        client: Number of the client.
        caller: Number of its kind.
        call: The call, as policies see it.
        execution: Its way through the client's policies.
        stack: The stack it goes through, when calls are to be noted for its loops.
        parent: The call that it is a branch of, or None.
        turn: Number of what it waits for now: an attempt or a pause. What ends another is stale.
        began: When the attempt began.
        race: The row that races, while one does.
        branches: What runs side by side then.
    """

    __slots__ = (
        "began",
        "branches",
        "call",
        "caller",
        "client",
        "execution",
        "parent",
        "race",
        "stack",
        "turn",
    )

    def __init__(
        self,
        client: int,
        caller: int,
        call: Call,
        execution: Execution,
        stack: Stack | None,
        parent: MadeCall | None = None,
    ) -> None:
        self.client = client
        self.caller = caller
        self.call = call
        self.execution = execution
        self.stack = stack
        self.parent = parent
        self.race: Execution | None = None
        self.branches: list[MadeCall] = []
        self.turn = 0
        self.began = 0.0


class SimulatedClients:
    """Processes that call a server.

    Attributes:
        closed: Whether each makes its next call when the last has ended.
    """

    def __init__(
        self,
        scenario: Scenario,
        routes: list[Routes | None],
        server: SimulatedServer,
        timeline: Timeline,
        tally: Tally,
        random: Random,
    ) -> None:
        """Have nothing to do yet."""
        self.closed = scenario.traffic.think is not None
        self._think = scenario.traffic.think or 0.0
        self._server = server
        self._timeline = timeline
        self._tally = tally
        self._random = random
        self._deadlines = [each.deadline or scenario.traffic.deadline for each in scenario.callers]
        self._pairs = [each.pairs() for each in scenario.callers]
        self._ways = [[_way(each, own) for each in scenario.callers] for own in routes]
        self._pick = picker(scenario, random)
        self._over = False

    def begin(self) -> None:
        """Have each client make its first call, at a time of its own."""
        for client in range(len(self._ways)):
            at = self._timeline.time + self._random.random() * (self._think or 0.01)
            self._timeline.at(at, self._next_of, client)

    def end(self) -> None:
        """Make no more calls."""
        self._over = True

    def _next_of(self, client: int) -> None:
        if not self._over:
            self.call(self._pick(), client)

    def call(self, caller: int, client: int | None = None, took: float = 0.0) -> None:
        """Make a call, from a client or from any."""
        now = self._timeline.time
        if client is None:
            client = self._random.randrange(len(self._ways))
        method, plan, stack = self._ways[client][caller]
        seconds = self._deadlines[caller]
        deadline = None if seconds is None else now + seconds
        call = Call(method, now, deadline, self._pairs[caller], None, None, None)
        made = MadeCall(client, caller, call, Execution(plan, call, deadline), stack)
        self._tally.offered[caller] += 1
        self._go_on(made, made.execution.start(now), took)

    def _go_on(self, made: MadeCall, step: Step, took: float = 0.0) -> None:
        """Do what the execution of a call says."""
        made.turn += 1
        now, row = self._timeline.time, made.execution.current()
        if step is ATTEMPT:
            made.began = now
            answer = partial(self._answered, made, made.turn)
            pairs: Any = None if made.call.metadata is None else tuple(made.call.metadata)
            self._server.receive(made.caller, row.deadline, answer, pairs, took)
            if row.deadline is not None:
                self._timeline.at(max(row.deadline, now), partial(self._expired, made), made.turn)
        elif step is PAUSE:
            wait, turn = row.wait, made.turn
            resume = partial(self._resumed, made)
            if wait is not None:
                wait.wake = partial(self._woken, made, turn)
            ready = wait is not None and wait.ready
            # Never at this very moment again: a gate may not be done with its wait yet.
            self._timeline.at(now if ready else max(row.until, now + AGAIN), resume, turn)
        elif step is not FINISH:
            made.race, made.branches = row, []
            self._run_race(made, row)
        elif made.parent is None:
            self._ended(made)
        elif made.parent.race is not None:
            self._raced(made.parent, made.parent.execution.branch_finished(made.execution, now))

    def _woken(self, made: MadeCall, turn: int) -> None:
        self._timeline.at(self._timeline.time, partial(self._resumed, made), turn)

    def _resumed(self, made: MadeCall, turn: int) -> None:
        if made.turn == turn:
            self._go_on(made, made.execution.resume(self._timeline.time))

    def _answered(self, made: MadeCall, turn: int, outcome: Outcome) -> None:
        """Take what the server has said, unless nobody waits for it any more."""
        if made.turn != turn:
            return
        now = self._timeline.time
        outcome.duration = now - made.began
        self._go_on(made, made.execution.settle(outcome, now))

    def _expired(self, made: MadeCall, turn: int) -> None:
        """Give up an attempt: its time is over."""
        if made.turn != turn:
            return
        now = self._timeline.time
        outcome = Outcome(Kind.FAILURE, Code.DEADLINE_EXCEEDED, now - made.began, ERROR)
        self._go_on(made, made.execution.settle(outcome, now))

    def _run_race(self, made: MadeCall, row: Execution) -> None:
        """Start what is to run side by side and does not yet, and mind when there may be more."""
        turn = made.turn
        while made.turn == turn and len(made.branches) < len(row.branches):
            execution = row.branches[len(made.branches)]
            branch = MadeCall(made.client, made.caller, made.call, execution, None, made)
            made.branches.append(branch)
            self._go_on(branch, execution.start(self._timeline.time))
        if made.turn == turn and row.next_branch is not None:
            self._timeline.at(row.next_branch, partial(self._due, made), turn)

    def _due(self, made: MadeCall, turn: int) -> None:
        if made.turn == turn:
            self._raced(made, made.execution.branch_due(self._timeline.time))

    def _raced(self, made: MadeCall, step: Step) -> None:
        """Go on with a race, or after it: then whoever has lost is called off."""
        assert made.race is not None
        if step is PENDING:
            made.turn += 1
            self._run_race(made, made.race)
            return
        self._call_off(made.branches)
        made.race, made.branches = None, []
        self._go_on(made, step)

    def _call_off(self, branches: list[MadeCall]) -> None:
        """Give up what still runs; the server works on it to the end, as a sync handler does."""
        for branch in branches:
            branch.turn += 1
            self._call_off(branch.branches)
            branch.execution.cancel(self._timeline.time)

    def _ended(self, made: MadeCall) -> None:
        """Count a call, and have its client go on."""
        tally, caller, now = self._tally, made.caller, self._timeline.time
        outcome = made.execution.outcome
        if made.stack is not None:
            made.stack.recorder.ended(made.call, outcome, now)
        if outcome.code is Code.OK:
            tally.latencies.append(now - made.call.started)
            tally.good[caller] += 1
        elif outcome.refusal is not None or outcome.overload:
            tally.refused[caller] += 1
        elif outcome.code is Code.DEADLINE_EXCEEDED:
            tally.late[caller] += 1
        else:
            tally.failed[caller] += 1
        if self.closed and not self._over:
            pause = self._random.expovariate(1.0 / self._think) if self._think else 0.0
            at = max(now + pause, made.call.started + _LEAST)
            self._timeline.at(at, self._next_of, made.client)


def picker(scenario: Scenario, random: Random) -> Any:
    """Return what tells of which kind the next call is."""
    callers = scenario.callers
    if len(callers) == 1:
        return lambda: 0
    numbers = range(len(callers))
    shares = [each.share for each in callers]
    # Drawn many at a time: one by one costs as much as all the rest of a call.
    drawn: list[int] = []

    def pick() -> int:
        if not drawn:
            drawn.extend(random.choices(numbers, shares, k=1024))
        return drawn.pop()

    return pick


def _way(caller: Caller, routes: Routes | None) -> tuple[Method, Plan, Stack | None]:
    method = Method(caller.method, side=Side.CLIENT)
    stack = None if routes is None else routes(method.name)
    if stack is None:
        return method, _BARE, None
    plan = stack.plan.of_method(method, streams=False)
    noted = any(hasattr(live, "tick") for live in stack.policies.values())
    return method, plan, stack if noted else None
