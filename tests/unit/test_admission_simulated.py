"""The queue before a small server: the marks that it is to reach."""

import statistics

import pytest

from ninelives_grpc import AdmissionQueue
from tests.unit.limited import WORKERS
from tests.unit.queued import Source, World, of_class, of_tenant


def world(*sources, seed=1, slower=1.0, **options):
    return World(AdmissionQueue(WORKERS, **options), *sources, seed=seed, slower=slower)


@pytest.mark.parametrize(
    ("load", "seconds", "mark"), [(1.2, 8.0, 0.98), (2.0, 8.0, 0.98), (5.0, 4.0, 0.95)]
)
def test_overload_costs_next_to_nothing_but_the_refusals(load, seconds, mark):
    # At five times the load, 3200 refusals a second take 4 % of what the server can do.
    made = world(Source(load, end=seconds))

    assert made.goodput(2.0, seconds) >= mark


def test_most_of_those_who_are_refused_hear_of_it_on_arrival():
    assert statistics.median(world(Source(2.0, end=5.0)).refused_after) == 0.0


def test_bursts_wait_where_there_is_time_for_all():
    bursts = [Source(1.6, name="burst", begin=0.5 * n + 0.2, end=0.5 * n + 0.35) for n in range(12)]

    assert world(Source(0.4, end=6.0, name="burst"), *bursts).served("burst", 0.0, 6.0) >= 0.97


def test_load_near_the_capacity_is_served():
    assert world(Source(0.95, end=8.0)).served("all", 2.0, 8.0) >= 0.985


def test_nobody_is_refused_who_could_be_served():
    assert world(Source(0.7, end=6.0)).refused_after == []


def test_a_server_that_is_slower_than_its_load_answers_in_time_what_it_can():
    assert world(Source(0.9, end=6.0), slower=2.0).goodput(1.0, 6.0) >= 0.97


def test_calls_that_matter_most_are_all_served_at_twice_the_load():
    load = {"critical": 0.2, "high": 0.4, "normal": 0.8, "background": 0.6}
    made = world(*(of_class(name, load[name]) for name in load))

    served = {name: made.served(name, 2.0) for name in load}
    assert served["critical"] >= 0.995
    assert served["high"] >= 0.995
    assert served["normal"] >= 0.47
    assert served["background"] <= 0.03


def test_one_tenant_at_five_times_the_capacity_takes_nothing_from_the_others():
    good = [of_tenant(f"good {number}", 0.05, end=4.0) for number in range(9)]
    noisy = of_tenant("noisy", 5.0, end=4.0)
    made = world(noisy, *good, fair_by="metadata:x-tenant")

    for tenant in good:
        assert made.served(tenant.name, 1.0, 3.7) >= 0.99
    assert made.goodput(1.0, 4.0) >= 0.95


def test_never_more_run_than_there_are_places_and_all_give_them_back():
    made = world(Source(3.0, end=2.0))

    assert made.most == WORKERS
    assert made.gate.in_flight == 0
    assert made.gate.state(made.now)["queued"] == 0
