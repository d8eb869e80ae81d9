"""A small server in virtual time behind an admission queue: as in `limited`, and a place a worker.

Each refusal costs the server 0.2 ms, which the next call that a worker begins with pays for.
"""

import random
from heapq import heappop, heappush

from ninelives_grpc import Method
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import succeeded
from ninelives_grpc.policies.gate import PERMIT, Permit, Refusal
from tests.unit.alone import alone
from tests.unit.limited import CAPACITY, DEADLINE, REFUSAL, SERVICES

METHOD = Method("shop.v1.Prices/Get")


class Source:
    """Calls that come at random, all alike.

    Attributes:
        name: Under which they are counted.
        metadata: What they bring.
    """

    def __init__(self, load, *, name="all", begin=0.0, end=10.0, metadata=()):
        self.rate = load * CAPACITY
        self.name = name
        self.begin = begin
        self.end = end
        self.metadata = metadata


class World:
    """The server, its queue, and what became of the calls, by the name of where they come from."""

    def __init__(self, policy, *sources, seed=1, slower=1.0):
        self.now = 0.0
        self.gate = alone(policy, now=lambda: self.now)
        self.slower = slower
        self.offered = []
        self.good = []
        self.refused_after = []
        self.most = 0
        self._random = random.Random(seed)
        self._events = []
        self._services = []
        self._number = 0
        self._debt = 0.0
        for source in sources:
            self._next_of(source, source.begin)
        while self._events:
            self.now, _, happen, about = heappop(self._events)
            happen(*about)

    def served(self, name="all", begin=0.0, end=10.0):
        """Return the share of a source's calls of that time that were answered in time."""
        offered = sum(each == name and begin <= at < end for each, at in self.offered)
        good = sum(each == name and begin <= at < end for each, at, _ in self.good)
        return good / offered

    def goodput(self, begin=0.0, end=10.0):
        """Return the answers in time as a share of what is possible."""
        offered = sum(begin <= at < end for _, at in self.offered)
        good = sum(begin <= at < end for _, _, at in self.good)
        return good / min(offered, (end - begin) * CAPACITY / self.slower)

    def _next_of(self, source, after):
        at = after + self._random.expovariate(source.rate)
        if at < source.end:
            self._at(at, self._arrives, source)

    def _arrives(self, source):
        self._next_of(source, self.now)
        self.offered.append((source.name, self.now))
        call = Call(METHOD, self.now, self.now + DEADLINE, source.metadata)
        verdict = self.gate.admit(call, self.now, call.deadline)
        self._answer(verdict, source, call)

    def _answer(self, verdict, source, call):
        if isinstance(verdict, Permit):
            self._serve(source, call)
        elif isinstance(verdict, Refusal):
            self._debt += REFUSAL
            self.refused_after.append(self.now - call.started)
        else:
            self._wait(verdict, source, call)

    def _wait(self, place, source, call):
        def wake():
            self._answer(self.gate.claim(place, call, self.now), source, call)

        def give_up():
            if not place.ready:
                wake()

        place.wake = wake
        self._at(place.until, give_up)

    def _serve(self, source, call):
        self.most = max(self.most, self.gate.in_flight)
        if not self._services:
            self._services = SERVICES.copy()
            self._random.shuffle(self._services)
        took = self._services.pop() * self.slower + self._debt
        self._debt = 0.0
        self._at(self.now + took, self._ends, source, call, took)

    def _ends(self, source, call, took):
        if self.now <= call.deadline:
            self.good.append((source.name, call.started, self.now))
        self.gate.settle(PERMIT, succeeded(took), self.now)

    def _at(self, time, happen, *about):
        self._number += 1
        heappush(self._events, (time, self._number, happen, about))


def of_class(name, load, **options):
    """Return calls of a class."""
    return Source(load, name=name, metadata=(("x-ninelives-priority", name),), **options)


def of_tenant(name, load, **options):
    """Return calls of a tenant."""
    return Source(load, name=name, metadata=(("x-tenant", name),), **options)
