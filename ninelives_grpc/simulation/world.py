"""Run a scenario in virtual time, with the policies that a program would run."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from ninelives_grpc.policies.load_shed import LoadShedGate
from ninelives_grpc.simulation.clients import SimulatedClients, picker
from ninelives_grpc.simulation.result import Result
from ninelives_grpc.simulation.server import SimulatedServer
from ninelives_grpc.simulation.services import draws
from ninelives_grpc.simulation.sharing import SharingServer
from ninelives_grpc.simulation.tally import INTERVAL, Sample, Tally
from ninelives_grpc.simulation.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.clock import Clock
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.simulation.scenario import Scenario
    from ninelives_grpc.simulation.sections import Phase
    from ninelives_grpc.stacks.stack import Stack


_FINE = 3600.0
"""Seconds that samples are taken of ten times each: over more they are taken less often."""


def simulate(scenario: Scenario, seed: int = 1) -> Result:
    """Run a scenario from its begin until the last call has ended.

    The same scenario and seed give the same result, to the last digit: also what policies draw at
    random, such as jitter, comes from the seed meanwhile. It is no matter of how fast the machine
    is.

    Args:
        scenario: What is to happen.
        seed: Where chance begins.

    Raises:
        ConfigError: A stack of the scenario cannot be built, or not be simulated.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        return World(scenario, seed).run()
    finally:
        random.setstate(before)


class World:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        """Build the stacks, the server and the clients."""
        self._scenario = scenario
        # Of chance there are several kinds, so that all stacks meet the same calls.
        arrivals, services, errors, choices = (
            random.Random(f"{seed} {what}")
            for what in ("arrivals", "services", "errors", "choices")
        )
        self._timeline = timeline = Timeline()
        self._tally = tally = Tally(len(scenario.callers))
        routes = None if scenario.stack is None else scenario.stack.build(timeline.clock)
        kind = SimulatedServer if scenario.server.cores is None else SharingServer
        draw = draws(scenario.service, services)
        self._server = kind(scenario, routes, timeline, tally, errors, draw)
        self._clients: SimulatedClients | None = None
        clients = _client_routes(scenario, timeline.clock)
        if clients:
            self._clients = SimulatedClients(
                scenario, clients, self._server, timeline, tally, choices
            )
        self._open = scenario.traffic.think is None
        self._stacks = _stacks(routes, *clients)
        _unplug(self._stacks)
        self._limiting = _limiting(() if routes is None else routes.stacks)
        self._deadlines = [each.deadline or scenario.traffic.deadline for each in scenario.callers]
        self._pick = picker(scenario, arrivals)
        self._replayed: Iterator[tuple[float, int, float]] = iter(scenario.arrivals)
        self._samples: list[Sample] = []
        self._every = INTERVAL * max(1, math.ceil(scenario.seconds / _FINE))
        self._capacities: list[tuple[float, float]] = []
        self._phase: Phase | None = None
        self._began = 0.0
        self._count = 0
        self._rate = 0.0
        self._ramps = False
        self._chance = arrivals.random
        self._next: tuple[float, int, float] | None = None
        self._over = False

    def run(self) -> Result:
        """Let everything happen."""
        scenario, timeline = self._scenario, self._timeline
        self._sample(None)
        begin = 0.0
        for phase in scenario.phases:
            timeline.at(begin, self._begin, phase)
            begin += phase.seconds
        timeline.at(begin, self._end)
        if self._clients is not None and self._clients.closed:
            self._clients.begin()
        for loop in _loops(self._stacks):
            timeline.at(max(0.0, loop.due), self._tick, loop)
        arrive = self._arrive_directly if self._clients is None else self._arrive
        if scenario.arrivals:
            self._fetch()
            arrive = self._replay
        timeline.run(arrive)
        return Result(
            scenario=scenario,
            samples=tuple(self._samples),
            capacities=tuple(self._capacities),
            latencies=self._tally.latencies,
        )

    def _arrive(self) -> None:
        """Let a call come at random, and draw when the next one does."""
        caller = self._pick()
        self._come(caller, 0.0)
        rate = self._rate_now() if self._ramps else self._rate
        self._timeline.arrival = self._timeline.time + self._gap(rate)

    def _arrive_directly(self) -> None:
        """Do as `_arrive`, where nobody is between the calls and the server: most of all time."""
        timeline = self._timeline
        now, caller = timeline.time, self._pick()
        self._tally.offered[caller] += 1
        seconds = self._deadlines[caller]
        self._server.receive(caller, None if seconds is None else now + seconds)
        if self._ramps:
            timeline.arrival = now + self._gap(self._rate_now())
        else:
            timeline.arrival = now - math.log(1.0 - self._chance()) / self._rate

    def _come(self, caller: int, took: float) -> None:
        if self._clients is not None:
            self._clients.call(caller, took=took)
            return
        self._tally.offered[caller] += 1
        seconds = self._deadlines[caller]
        deadline = None if seconds is None else self._timeline.time + seconds
        self._server.receive(caller, deadline, None, None, took)

    def _gap(self, rate: float) -> float:
        return math.inf if rate <= 0.0 else -math.log(1.0 - self._chance()) / rate

    def _rate_now(self) -> float:
        phase = self._phase
        assert phase is not None
        assert phase.load_after is not None
        share = (self._timeline.time - self._began) / phase.seconds
        load = phase.load + (phase.load_after - phase.load) * share
        # Never nothing: what grows from 0 would not begin.
        return max(load, 0.001) * self._scenario.capacity

    def _replay(self) -> None:
        """Let a recorded call come."""
        assert self._next is not None
        _, caller, took = self._next
        self._come(caller, took)
        self._fetch()

    def _fetch(self) -> None:
        self._next = next(self._replayed, None)
        self._timeline.arrival = math.inf if self._next is None else self._next[0]

    def _begin(self, phase: Phase) -> None:
        """Have load and server be as the phase says."""
        self._sample_now()
        timeline, server = self._timeline, self._server
        self._phase, self._began, self._count = phase, timeline.time, self._count + 1
        self._turn(phase, bad=True)
        if phase.stalled:
            server.workers = 0
            server.stall(phase.seconds)
        if phase.flap_every is not None:
            timeline.at(timeline.time + phase.flap_every, self._flap, (self._count, False))
        if self._open and not self._scenario.arrivals:
            self._ramps = phase.load_after is not None
            self._load(phase.load)
            if phase.burst_load is not None:
                pause = phase.burst_every - phase.burst_seconds
                timeline.at(timeline.time + pause, self._burst, (self._count, True))

    def _turn(self, phase: Phase | None, *, bad: bool) -> None:
        """Have the server be as in a phase, or as it is when nothing is wrong with it."""
        server, scenario = self._server, self._scenario
        wrong = phase if bad else None
        server.workers = scenario.server.workers
        if wrong is not None and wrong.workers is not None:
            server.workers = wrong.workers
        server.slower = 1.0 if wrong is None else wrong.slower
        server.added = 0.0 if phase is None else phase.added
        server.errors = 0.0 if phase is None else phase.errors
        server.dead = phase is not None and phase.dead
        self._capacities.append((self._timeline.time, scenario.capacity_of(wrong)))
        server.fill()

    def _load(self, load: float) -> None:
        """Draw anew when the next call comes: with random arrivals that changes nothing else."""
        self._rate = load * self._scenario.capacity
        rate = self._rate_now() if self._ramps else self._rate
        self._timeline.arrival = self._timeline.time + self._gap(rate)

    def _burst(self, what: tuple[int, bool]) -> None:
        number, begins = what
        phase = self._phase
        if number != self._count or phase is None or phase.burst_load is None:
            return
        self._load(phase.burst_load if begins else phase.load)
        seconds = phase.burst_seconds if begins else phase.burst_every - phase.burst_seconds
        self._timeline.at(self._timeline.time + seconds, self._burst, (number, not begins))

    def _flap(self, what: tuple[int, bool]) -> None:
        number, bad = what
        phase = self._phase
        if number != self._count or phase is None or phase.flap_every is None:
            return
        self._sample_now()
        self._turn(phase, bad=bad)
        self._timeline.at(self._timeline.time + phase.flap_every, self._flap, (number, not bad))

    def _end(self, _: object) -> None:
        """Have nobody call any more; what is under way goes on, on a server that is well."""
        self._sample_now()
        self._over, self._phase = True, None
        self._timeline.arrival = math.inf
        if self._clients is not None:
            self._clients.end()
        self._turn(None, bad=False)
        # The last event of all, whenever that is: by then every call has ended.
        self._timeline.at(self._timeline.time + INTERVAL, self._last)

    def _last(self, _: object) -> None:
        if self._timeline.events:
            self._timeline.at(self._timeline.events[0][0] + INTERVAL, self._last)
        else:
            self._sample_now()

    def _sample(self, _: object) -> None:
        if not self._over:
            self._sample_now()
            # By number, as adding up would drift away from the begin of phases.
            at = (round(self._timeline.time / self._every) + 1) * self._every
            self._timeline.at(at, self._sample)

    def _sample_now(self) -> None:
        now, server, tally = self._timeline.time, self._server, self._tally
        for stack in self._stacks:
            stack.recorder.fold()
        limits = (live.state(now).get("limit") for live in self._limiting)
        limit = next((each for each in limits if isinstance(each, int | float)), None)
        self._samples.append(
            Sample(
                now,
                tally.counts(),
                tally.attempts,
                len(tally.latencies),
                limit,
                server.busy,
                len(server.queue) + server.waiting,
            )
        )

    def _tick(self, loop: Any) -> None:
        """Let a feedback loop look at its stack, and move what it moves."""
        if not self._over:
            loop.tick(self._timeline.time)
            self._timeline.at(max(loop.due, self._timeline.time + 1e-3), self._tick, loop)


def _client_routes(scenario: Scenario, clock: Clock) -> list[Routes | None]:
    """Build the stacks of each client; none where calls come straight to the server."""
    source, traffic = scenario.client, scenario.traffic
    if source is None and traffic.think is None:
        return []
    return [None if source is None else source.build(clock) for _ in range(traffic.clients)]


def _stacks(*routes: Routes | None) -> tuple[Stack, ...]:
    return tuple(stack for each in routes if each is not None for stack in each.stacks)


def _unplug(stacks: tuple[Stack, ...]) -> None:
    """Have no policy go by the memory or the CPU of the machine that simulates."""
    for stack in stacks:
        for live in stack.policies.values():
            if isinstance(live, LoadShedGate):
                live.unplug()


def _limiting(stacks: tuple[Stack, ...]) -> tuple[Any, ...]:
    lives = (live for stack in stacks for live in stack.policies.values())
    return tuple(live for live in lives if "limit" in live.state(0.0))


def _loops(stacks: tuple[Stack, ...]) -> tuple[Any, ...]:
    """Find what is called at times of its own: it has `tick`, and says when it is `due`."""
    lives = (live for stack in stacks for live in stack.policies.values())
    return tuple(live for live in lives if hasattr(live, "tick") and hasattr(live, "due"))
