"""The default limit before a small server: the marks that it is to reach, each for three seeds.

Goodput is a share of what was possible, and the median of the seeds counts.
"""

import statistics

import pytest

from ninelives_grpc.simulation import Phase, Traffic
from tests.unit.simulated import BEFORE, USUAL, run, source

LIMIT = source("concurrency_limit")
SEEDS = (1, 2, 3)


def goodput(*phases, after=0.0, **given):
    """Return the goodput of the last phase, from so many seconds after its begin."""
    end = sum(phase.seconds for phase in phases)
    begin = end - phases[-1].seconds + after
    results = (run(*phases, stack=LIMIT, seed=seed, **given) for seed in SEEDS)
    return statistics.median(result.goodput(begin, end) for result in results)


@pytest.mark.parametrize(("load", "mark"), [(1.2, 0.98), (2.0, 0.983)])
def test_overload_costs_next_to_nothing(load, mark):
    assert goodput(USUAL, Phase(seconds=15.0, load=load)) >= mark


def test_ten_times_the_load_costs_little_more_than_its_refusals():
    # 7200 refusals a second take 1.44 of the 16 workers: no more than 0.91 is possible.
    assert goodput(USUAL, Phase(seconds=4.0, load=10.0), after=1.0) >= 0.90


@pytest.mark.parametrize("change", [{"slower": 2.0}, {"workers": 8}], ids=str)
def test_a_backend_that_can_do_less_does_what_it_can_two_seconds_later(change):
    assert goodput(USUAL, Phase(seconds=12.0, load=0.7, **change), after=2.0) >= 0.98


def test_a_backend_that_is_far_slower_is_not_kept_idle():
    # By a base of before, it would have one call at a time, of the sixteen that it can do.
    slow = Phase(seconds=25.0, load=0.7, slower=25.0)

    assert goodput(USUAL, slow, after=20.0, traffic=Traffic(deadline=None)) >= 0.8


def test_latency_that_comes_from_elsewhere_is_found_out_within_a_second():
    assert goodput(USUAL, Phase(seconds=10.0, load=0.7, added=0.1), after=1.0) >= 0.97


def test_nothing_is_refused_that_could_be_done():
    totals = run(Phase(seconds=10.0, load=0.7), stack=LIMIT).totals()

    assert totals.refused / totals.offered < 0.001


def test_load_near_the_capacity_is_served():
    assert goodput(Phase(seconds=15.0, load=0.95), after=2.0) >= 0.985


def test_without_a_limit_that_server_answers_nobody_in_time():
    assert run(Phase(seconds=6.0, load=2.0)).goodput(2.0, 6.0) < 0.01


def test_the_limit_settles_after_a_step_instead_of_swinging():
    result = run(USUAL, Phase(seconds=20.0, load=2.0), stack=LIMIT)
    limits = [sample.limit for sample in result.samples if BEFORE + 2.0 < sample.at < 25.0]

    middle = statistics.median(limits)
    assert 20 < middle < 50
    # Ten times a second is often enough to see each probe, and each lasts for less than a second.
    assert sum(limit < 0.6 * middle for limit in limits) <= 20
    assert max(limits) < 60
