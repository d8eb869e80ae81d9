"""Small models of what a loop steers, and a loop over one, in virtual time."""

from dataclasses import dataclass
from itertools import pairwise

from ninelives_grpc import Bulkhead, RateLimit
from tests.unit.steered import Steered, reading


@dataclass
class Concurrent:
    """A backend behind a bulkhead: calls take longer once more run than it has workers.

    Attributes:
        knee: Calls that it can do at once.
        demand: Calls that callers would have run at once.
        base: Seconds that a call takes alone.
    """

    knee: float
    demand: float = 1e9
    base: float = 0.01

    def reading(self, at, limit):
        """Return what is seen with a limit."""
        ran = min(limit, self.demand)
        latency = self.base * max(1.0, ran / self.knee)
        calls, demand = max(10, round(ran / latency)), min(self.demand, ran * 10.0)
        refusals = round(calls * (demand - ran) / ran)
        return reading(
            at=at,
            calls=calls + refusals,
            refusals=refusals,
            p50=latency,
            p99=latency * 2.0,
            mean=latency,
            used=min(1.0, ran / limit),
        )


@dataclass
class Served:
    """A backend behind a rate limit: what it can not do fails.

    Attributes:
        capacity: Calls that it can do in a second.
        demand: Calls that come.
    """

    capacity: float
    demand: float = 1e9

    def reading(self, at, limit):
        """Return what is seen with a limit."""
        sent = min(limit, self.demand)
        failures = max(0.0, sent - self.capacity)
        # Ten seconds, so that whole calls are near enough.
        calls = max(10, round(sent * 10.0))
        return reading(
            at=at,
            calls=calls,
            failures=round(calls * failures / sent),
            used=min(1.0, sent / limit),
        )


class Scripted:
    """Stands where a loop reads its stack, and answers by a plant."""

    def __init__(self, loop, plant):
        self.plant = plant
        self.since = 0.0
        self._loop = loop

    def read(self, now, horizon=None):
        """Ask the plant."""
        return self.plant.reading(now, self._loop.handle.get())

    def restart(self, now):
        """Begin anew."""
        self.since = now

    skip = restart


def looped(law, plant, start, bounds=(1, 10_000)):
    """Return a loop over a plant, and the world in which it is."""
    if isinstance(plant, Served):
        world = Steered(law, RateLimit(start), "rate_limit/rate", bounds=bounds)
    else:
        world = Steered(law, Bulkhead(start), bounds=bounds)
    world.loop._readings = Scripted(world.loop, plant)
    return world


def values_of(world, looks):
    """Look so many times, and return the values that held after each."""
    found = []
    for _ in range(looks):
        world.tick()
        found.append(world.handle.get())
    return found


def reversals(values):
    """Return how often values turned round."""
    moves = [b - a for a, b in pairwise(values) if a != b]
    return sum(a * b < 0 for a, b in pairwise(moves))
