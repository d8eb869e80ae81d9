"""How long calls take: drawn at random, but so that a few seconds have the right mean."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from ninelives_grpc.simulation.sections import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from ninelives_grpc.simulation.sections import Service

_STRATA = 200


def draws(service: Service, random: Random) -> Callable[[], float]:
    """Return what tells how long the next call takes.

    Times are drawn in rounds of 200 quantiles, each once a round in random order, and scaled to the
    mean: so the capacity is what it should be after any whole round, which a plain sample of a
    heavy tail would not reach in minutes. As long calls do not follow each other by chance for more
    than a round, waits near the capacity are some percent shorter than theory says (8 % at 0.8 of
    it, behind one worker).
    """
    strata = _strata(service)
    left: list[float] = []

    def draw() -> float:
        if not left:
            left.extend(strata)
            random.shuffle(left)
        return left.pop()

    return draw


def _strata(service: Service) -> list[float]:
    """Return the quantiles in the middle of each stratum, with the mean that is wanted."""
    shape = _SHAPES[service.kind]
    raw = [shape((n + 0.5) / _STRATA, service) for n in range(_STRATA)]
    scale = service.mean * _STRATA / sum(raw)
    return [scale * each for each in raw]


_SHAPES: dict[Kind, Callable[[float, Service], float]] = {
    Kind.LOGNORMAL: lambda p, service: math.exp(service.sigma * NormalDist().inv_cdf(p)),
    Kind.EXPONENTIAL: lambda p, _: -math.log(1.0 - p),
    Kind.FIXED: lambda *_: 1.0,
    Kind.PARETO: lambda p, service: (1.0 - p) ** (-1.0 / service.alpha),
}
