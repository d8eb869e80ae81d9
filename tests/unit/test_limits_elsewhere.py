"""The default limit before servers for which it was not tuned: slow, tiny, late or begun too late.

Goodput is a share of what was possible, and the median of the seeds counts.
"""

import statistics

import pytest

from ninelives_grpc.simulation import Phase
from ninelives_grpc.simulation.sections import Kind, Server, Service, Traffic
from tests.unit.simulated import run, source

LIMIT = source("concurrency_limit")
SEEDS = (1, 2, 3)


def goodput(*phases, after, workers, mean, deadline, kind=Kind.LOGNORMAL, sigma=0.6):
    """Return the goodput of the last phase, from so many seconds after its begin."""
    end = sum(phase.seconds for phase in phases)
    begin = end - phases[-1].seconds + after
    given = {
        "service": Service(kind=kind, mean=mean, sigma=sigma),
        "server": Server(workers=workers, refusal=min(0.0002, 0.01 * mean)),
        "traffic": Traffic(deadline=deadline),
    }
    results = (run(*phases, stack=LIMIT, seed=seed, **given) for seed in SEEDS)
    return statistics.median(result.goodput(begin, end) for result in results)


@pytest.mark.parametrize(("deadline", "mark"), [(0.01, 0.78), (0.02, 0.88)])
def test_a_limit_that_begins_in_an_overload_finds_out_what_calls_take_by_themselves(deadline, mark):
    # The first answers it sees have waited for far longer than their deadline.
    found = goodput(
        Phase(seconds=10.0, load=6.0),
        after=2.0,
        workers=1,
        mean=0.002,
        deadline=deadline,
        kind=Kind.EXPONENTIAL,
    )

    assert found >= mark


@pytest.mark.parametrize(("added", "mark"), [(0.04, 0.93), (0.12, 0.6)])
def test_latency_from_elsewhere_under_overload_is_no_queue_also_when_calls_become_late(added, mark):
    found = goodput(
        Phase(seconds=5.0, load=0.7),
        Phase(seconds=5.0, load=2.0),
        Phase(seconds=10.0, load=2.0, added=added),
        after=1.0,
        workers=64,
        mean=0.1,
        deadline=0.25,
        sigma=0.3,
    )

    assert found >= mark


@pytest.mark.parametrize(
    ("workers", "mean", "deadline", "load"), [(50, 0.5, 1.3, 5.0), (75, 1.4, 7.0, 4.0)]
)
def test_slow_calls_that_end_together_are_no_burst(workers, mean, deadline, load):
    found = goodput(
        Phase(seconds=80.0 * mean, load=load),
        after=10.0,
        workers=workers,
        mean=mean,
        deadline=deadline,
        kind=Kind.FIXED,
    )

    assert found >= 0.93


def test_what_takes_long_to_measure_is_not_measured_half_of_the_time():
    found = goodput(
        Phase(seconds=300.0, load=1.3), after=20.0, workers=8, mean=2.0, deadline=8.0, sigma=0.3
    )

    assert found >= 0.9


def test_a_limit_of_a_few_calls_can_grow_by_one_when_calls_take_half_of_their_time():
    found = goodput(
        Phase(seconds=5.0, load=0.7),
        Phase(seconds=10.0, load=1.3),
        Phase(seconds=10.0, load=1.0, added=0.004),
        after=1.0,
        workers=3,
        mean=0.005,
        deadline=0.03,
        kind=Kind.FIXED,
    )

    assert found >= 0.83
