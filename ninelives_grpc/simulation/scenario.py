"""What is simulated: a server, who calls it, for how long, and what is expected of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ninelives_grpc.simulation.sections import Caller, Server, Service, Traffic

if TYPE_CHECKING:
    from ninelives_grpc.simulation.marks import Mark
    from ninelives_grpc.simulation.sections import Phase
    from ninelives_grpc.simulation.source import Stacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that is simulated.

    Attributes:
        name: In one word.
        title: In one sentence.
        suites: Collections that it belongs to.
        service: How long a call takes.
        server: The server.
        traffic: Who calls.
        callers: Of what kinds the calls are.
        phases: What happens one after the other.
        marks: What is to be reached.
        stack: Stacks of the server, or None for no policy at all.
        client: Stacks of each client, or None.
        arrivals: Recorded calls, which replace the load: when each comes, which caller it is, and
            how long it takes, or 0 for a time drawn at random.
    """

    name: str
    title: str = ""
    suites: tuple[str, ...] = ()
    service: Service = dataclasses.field(default_factory=Service)
    server: Server = dataclasses.field(default_factory=Server)
    traffic: Traffic = dataclasses.field(default_factory=Traffic)
    callers: tuple[Caller, ...] = dataclasses.field(default_factory=lambda: (Caller(),))
    phases: tuple[Phase, ...] = ()
    marks: tuple[Mark, ...] = ()
    stack: Stacks | None = None
    client: Stacks | None = None
    arrivals: tuple[tuple[float, int, float], ...] = ()

    @property
    def capacity(self) -> float:
        """Calls a second that the server can do at first."""
        return self.capacity_of(None)

    def capacity_of(self, phase: Phase | None) -> float:
        """Return the calls a second that it can do in a phase, while that is bad if it flaps."""
        if phase is not None and (phase.stalled or phase.dead):
            return 0.0
        workers = self.server.workers
        if phase is not None and phase.workers is not None:
            workers = phase.workers
        at_once = workers if self.server.cores is None else min(workers, self.server.cores)
        slower = 1.0 if phase is None else phase.slower
        return at_once / (self.service.mean * slower * self.mean_slowness)

    @property
    def mean_slowness(self) -> float:
        """How many times as long as the service's mean a call takes on average."""
        shares = sum(caller.share for caller in self.callers)
        return sum(caller.share * caller.slower for caller in self.callers) / shares

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def ends(self) -> tuple[float, ...]:
        """When each phase ends."""
        return tuple(accumulate(phase.seconds for phase in self.phases))

    def window(self, mark: Mark) -> tuple[float, float]:
        """Return from when to when a mark counts."""
        begin, end = 0.0, self.seconds
        if mark.phase is not None:
            begin = sum(phase.seconds for phase in self.phases[: mark.phase - 1])
            end = begin + self.phases[mark.phase - 1].seconds
        until = end if mark.until is None else begin + mark.until
        return begin + mark.after, until

    def with_stacks(self, **stacks: Any) -> Scenario:
        """Return the same scenario with another `stack` or `client`."""
        return dataclasses.replace(self, **stacks)
