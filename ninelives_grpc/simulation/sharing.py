"""A server whose workers are threads that share a few processors: the more of them, the slower."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from ninelives_grpc.simulation.server import SimulatedServer

if TYPE_CHECKING:
    from ninelives_grpc.simulation.entrance import Job
    from ninelives_grpc.simulation.scenario import Scenario

_ROUNDING = 1e-12


class SharingServer(SimulatedServer):
    """Processor sharing: all calls at work go on at the same pace.

    With n calls on c cores each goes on at min(1, c/n), and somewhat slower still if switching
    between them costs something. So calls end in the order of the pace that they need: one number,
    the progress that a call begun at first would have made, says for all of them when that is.
    """

    def __init__(self, scenario: Scenario, *rest: Any) -> None:
        """Stand idle."""
        super().__init__(scenario, *rest)
        assert scenario.server.cores is not None
        self._cores = scenario.server.cores
        self._switching = scenario.server.switching
        self._progress = 0.0
        self._since = 0.0
        self._running: list[tuple[float, int, Job]] = []
        self._plans = 0

    def stall(self, seconds: float) -> None:
        """Let all work stand still for a while."""
        self._advance()
        self._since += seconds
        self._timeline.postpone((self._due, self._paid), seconds)

    def _put_to_work(self, job: Job, took: float) -> None:
        self._advance()
        heappush(self._running, (self._progress + took, next(self._numbers), job))
        self._plan()

    def _pace(self) -> float:
        each = len(self._running) / self._cores
        return 1.0 if each <= 1.0 else 1.0 / (each * (1.0 + self._switching * (each - 1.0)))

    def _advance(self) -> None:
        """Note how far all have come."""
        now = self._timeline.time
        if self._running:
            self._progress += (now - self._since) * self._pace()
        self._since = now

    def _plan(self) -> None:
        """Say when the next will be done, in place of what was said before."""
        self._plans += 1
        if self._running:
            left = max(0.0, self._running[0][0] - self._progress) / self._pace()
            self._timeline.at(self._timeline.time + left, self._due, self._plans)

    def _due(self, plan: int) -> None:
        """End what is done."""
        if plan != self._plans:
            return
        self._advance()
        while self._running and self._running[0][0] <= self._progress + _ROUNDING:
            _, _, job = heappop(self._running)
            self._done(job)
        self._plan()
