"""A small server in virtual time, behind a limit: workers, a queue in front of them, deadlines.

Services take 20 ms on average (log-normal, sigma 0.6), there are 16 workers, calls come at random
and are of use for 250 ms, and a refusal costs a worker 0.2 ms. Services are drawn in rounds of 200
quantiles, so that the capacity is what it should be also in a few seconds.
"""

import math
import random
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import NormalDist

from ninelives_grpc import Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import succeeded
from tests.unit.alone import alone

SERVICE = 0.02
SIGMA = 0.6
WORKERS = 16
CAPACITY = WORKERS / SERVICE
DEADLINE = 0.25
REFUSAL = 0.0002
_ROUND = [math.exp(SIGMA * NormalDist().inv_cdf((n + 0.5) / 200)) for n in range(200)]
SERVICES = [SERVICE * 200 * each / sum(_ROUND) for each in _ROUND]
CALL = Call(Method("shop.v1.Prices/Get"), 0.0)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some seconds of load.

    Attributes:
        seconds: How long it lasts.
        load: Calls that come, as a share of the capacity that the server has at first.
        added: Seconds that an answer is on its way beyond what the worker takes.
        slower: How many times as long a worker takes.
        workers: How many there are.
    """

    seconds: float
    load: float
    added: float = 0.0
    slower: float = 1.0
    workers: int = WORKERS

    @property
    def capacity(self):
        """Calls a second that could be answered."""
        return self.workers / (SERVICE * self.slower)


class World:
    """The server, its limit, and what became of the calls."""

    def __init__(self, policy, *phases, seed=1):
        self.now = 0.0
        self.gate = alone(policy, now=lambda: self.now)
        self.phases = phases
        self.limits = []
        self.good = []
        self.offered = []
        self.refused = 0
        self._random = random.Random(seed)
        self._phase = phases[0]
        self._queue = deque()
        self._busy = 0
        self._events = []
        self._services = []
        self._number = 0
        self._run()

    def goodput(self, begin, end):
        """Answers within their deadline between two times, as a share of what was possible."""
        ideal, start = 0.0, 0.0
        for phase in self.phases:
            stop = start + phase.seconds
            first, last = max(begin, start), min(end, stop)
            offered = sum(first <= at < last for at in self.offered)
            ideal += min(offered, max(0.0, last - first) * phase.capacity)
            start = stop
        return sum(begin <= at < end for at in self.good) / ideal

    def _run(self):
        start = 0.0
        for phase in self.phases:
            self._phase, end = phase, start + phase.seconds
            self._serve()
            arrival = start + self._random.expovariate(phase.load * CAPACITY)
            while arrival < end:
                while self._events and self._events[0][0] <= arrival:
                    self._happens()
                self.now = arrival
                self._arrives()
                arrival += self._random.expovariate(phase.load * CAPACITY)
            start = end
        while self._events:
            self._happens()

    def _arrives(self):
        self.offered.append(self.now)
        verdict = self.gate.admit(CALL, self.now, self.now + DEADLINE)
        if verdict.admitted:
            self._queue.append((self.now, verdict))
        else:
            self.refused += 1
            self._queue.appendleft((self.now, None))
        self._serve()
        limit = self.gate._law.limit
        if not self.limits or self.limits[-1][1] != limit:
            self.limits.append((self.now, limit))

    def _serve(self):
        while self._queue and self._busy < self._phase.workers:
            came, permit = self._queue.popleft()
            self._busy += 1
            took = REFUSAL
            if permit is not None:
                took = self._service() * self._phase.slower
            self._at(self.now + took, came, permit, at_work=True)

    def _service(self):
        if not self._services:
            self._services = SERVICES.copy()
            self._random.shuffle(self._services)
        return self._services.pop()

    def _happens(self):
        self.now, _, came, permit, at_work = heappop(self._events)
        if at_work:
            self._busy -= 1
            if permit is not None and self._phase.added:
                self._at(self.now + self._phase.added, came, permit, at_work=False)
            elif permit is not None:
                self._ends(came, permit)
            self._serve()
        else:
            self._ends(came, permit)

    def _ends(self, came, permit):
        took = self.now - came
        self.gate.settle(permit, succeeded(took), self.now)
        if took <= DEADLINE:
            self.good.append(self.now)

    def _at(self, time, came, permit, *, at_work):
        self._number += 1
        heappush(self._events, (time, self._number, came, permit, at_work))
