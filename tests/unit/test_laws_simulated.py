"""Loops of a configuration over a bulkhead that is too large, in the simulator's virtual time."""

import pytest

from ninelives_grpc.simulation import load, simulate, stack_source

SIZE = {"parameter": "bulkhead/max_concurrent", "interval": 0.5, "low": 4, "high": 200}
LAWS = {
    "aimd": {"latency": 0.12, "backoff": 0.8},
    "bulkhead_size": {"target": 0.12, "smoothing": 0.6},
    "gradient": {},
    "pid": {"setpoint": 0.12, "proportional": 10.0, "integral": 10.0},
    "prediction": {"latency": 0.05, "horizon": 1.0},
}


def goodput(scenario, loops, size=100):
    """Return the answers in time from three seconds after the change on, as a share of the best."""
    table = {"expression": "bulkhead", "bulkhead": {"max_concurrent": size}, "loops": loops}
    found = load(scenario)
    result = simulate(found.with_stacks(stack=stack_source(table, "test")), seed=1)
    return result.goodput(8.0, found.seconds)


@pytest.mark.parametrize("law", LAWS)
def test_a_law_sizes_a_bulkhead_when_half_of_the_workers_are_gone(law):
    loops = {"size": {"law": law, **SIZE, **LAWS[law]}}

    assert goodput("c_half_gone", loops) >= 0.97


def test_without_a_law_a_bulkhead_that_is_too_large_serves_too_late():
    assert goodput("c_half_gone", {}) < 0.75


@pytest.mark.parametrize("law", ["aimd", "bulkhead_size"])
def test_a_target_that_a_slower_backend_can_not_reach_does_not_end_all(law):
    loops = {"size": {"law": law, **SIZE, **LAWS[law]}}

    assert goodput("c_slower", loops, size=24) >= 0.8
