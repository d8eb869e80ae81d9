"""Servers drawn at random, to see that nothing was tuned to those one knows."""

from __future__ import annotations

import math
from random import Random

from ninelives_grpc.simulation.marks import Mark
from ninelives_grpc.simulation.scenario import Scenario
from ninelives_grpc.simulation.sections import Kind, Phase, Server, Service, Traffic

_BUSIEST = 2000.0
"""Calls a second that the largest can do: more are no different, and take long to simulate."""


def random_servers(many: int, seed: int = 1) -> list[Scenario]:
    """Return overloaded servers of all sizes, each with the mark of its goodput.

    Workers from 2 to 128, calls of 2 to 100 ms on average with little or much spread, deadlines of
    5 to 30 times that, and loads of 1.2 to 8 times the capacity, after a time at 0.7.

    Args:
        many: How many.
        seed: Where chance begins; the scenarios of one seed are always the same.
    """
    random = Random(seed)
    return [_server(number, random) for number in range(1, many + 1)]


def _server(number: int, random: Random) -> Scenario:
    mean = _between(random, 0.002, 0.1)
    workers = max(2, round(_between(random, 2, min(128, _BUSIEST * mean))))
    kind = random.choice((Kind.LOGNORMAL, Kind.LOGNORMAL, Kind.EXPONENTIAL, Kind.FIXED))
    sigma = random.uniform(0.2, 1.0)
    deadline = mean * _between(random, 5.0, 30.0)
    load = _between(random, 1.2, 8.0)
    # As many calls as make a median steady, and as long as a limit needs to be found.
    seconds = max(10.0, 4000.0 * mean / workers)
    return Scenario(
        name=f"random-{number}",
        title=f"{workers} workers, {mean * 1e3:.3g} ms {kind}, {deadline / mean:.3g} times that "
        f"until the deadline, {load:.3g} times the load",
        service=Service(kind=kind, mean=mean, sigma=sigma),
        server=Server(workers=workers, refusal=min(0.0002, 0.01 * mean)),
        traffic=Traffic(deadline=deadline),
        phases=(Phase(seconds=5.0, load=0.7), Phase(seconds=seconds, load=load)),
        marks=(Mark(phase=2, after=1.0),),
    )


def _between(random: Random, low: float, high: float) -> float:
    """Draw a number of which any order of magnitude is as likely as any other."""
    return math.exp(random.uniform(math.log(low), math.log(high)))
