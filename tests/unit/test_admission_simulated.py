"""An admission queue in the scenarios that come with the simulator: the marks that it is to reach.

It has a place for each worker, and is told who is who.
"""

import pytest

from ninelives_grpc.simulation import load, shipped, simulate
from ninelives_grpc.simulation.suite import QUEUE, candidates
from tests.unit.simulated import Phase, run, source

LONG = {"b_long_1_2x", "b_long_2x", "a_step_10x", "g_3x", "h_heavy_tails", "i_contention"}
"""Those that take longer: `ninelives simulate --suite overload` runs them."""
NOT_MEANT = {"d_latency"}
"""What only waits far away needs more places than the server has workers."""
SCENARIOS = [name for name in shipped("overload") if name not in LONG | NOT_MEANT]
WIDTH = {"width": 16}
SIXTEEN = {"admission_queue": WIDTH}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_mark_of_the_overload_scenarios_is_reached(name):
    scenario = load(name)
    result = simulate(scenario.with_stacks(stack=candidates(scenario)[QUEUE]))

    measured = {mark.about(): result.measure(mark) for mark in scenario.marks}
    assert all(mark.reached(measured[mark.about()]) for mark in scenario.marks), measured


def test_what_matters_least_is_not_served_while_others_wait():
    scenario = load("priorities")
    result = simulate(scenario.with_stacks(stack=candidates(scenario)[QUEUE]))

    totals = result.totals(6.0, caller="low")
    assert totals.good / totals.offered <= 0.03


def test_nobody_is_refused_who_could_be_served():
    phase = Phase(seconds=6.0, load=0.7)

    assert run(phase, stack=source(QUEUE, **SIXTEEN)).totals().refused == 0


@pytest.mark.parametrize("gone", [{"stalled": True}, {"slower": 25.0}], ids=["hung", "slow"])
def test_a_backend_that_was_gone_for_longer_than_a_deadline_is_used_again(gone):
    usual = Phase(seconds=3.0, load=0.7)

    result = run(usual, Phase(seconds=5.0, load=0.7, **gone), usual, stack=source(QUEUE, **SIXTEEN))

    assert result.goodput(9.5, 11.0) >= 0.98
