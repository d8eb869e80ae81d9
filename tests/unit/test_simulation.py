"""A simulated server does what queueing theory says, and loses no call."""

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninelives_grpc import Bulkhead, RateLimit, Registry, Stack, Timeout, pressure
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.simulation import Caller, Made, Phase, Server, Service, Traffic, load, simulate
from ninelives_grpc.simulation.suite import candidates
from tests.unit.simulated import USUAL, all_ended, run, scenario, source

EXPONENTIAL = Service(kind="exponential", mean=0.02)
TEN = {"max_concurrent": 10, "max_queue": 5, "max_wait": 0.02}
WAITING = source("bulkhead", bulkhead={"max_concurrent": 16, "max_queue": 50, "max_wait": 0.1})
TWO_GATES = source("concurrency_limit + bulkhead", bulkhead={"max_concurrent": 5})
HEDGED = source("hedge + bulkhead", hedge={"idempotent": True, "delay": 0.01}, bulkhead=TEN)
RETRIES = source(
    "retry + timeout",
    retry={"max_attempts": 3, "initial_backoff": 0.02, "idempotent": True},
    timeout={"seconds": 0.1},
)


def test_the_same_seed_gives_the_same_result_to_the_last_digit():
    stack = source("rate_limit", rate_limit={"rate": 300.0, "enforced": 0.7})
    phases = (Phase(seconds=4.0, load=1.5),)
    traffic = Traffic(clients=3)
    first = run(*phases, stack=stack, client=RETRIES, traffic=traffic, seed=7)
    # What policies draw themselves comes from the seed as well.
    random.seed(12345)
    again = run(*phases, stack=stack, client=RETRIES, traffic=traffic, seed=7)
    other = run(*phases, stack=stack, client=RETRIES, traffic=traffic, seed=8)

    assert (first.samples, first.latencies) == (again.samples, again.latencies)
    assert first.samples != other.samples


def test_all_stacks_meet_the_same_calls():
    phase = Phase(seconds=3.0, load=1.5)
    offered = {
        tuple(
            sample.counts.offered for sample in run(phase, stack=stack, client=client).samples[:30]
        )
        for stack, client in ((None, None), (WAITING, None), (TWO_GATES, RETRIES))
    }

    assert len(offered) == 1


def test_a_simulation_leaves_the_chance_of_the_program_alone():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    run(Phase(seconds=0.5), stack=WAITING)

    assert random.random() == expected


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_one_worker_is_as_slow_as_theory_says(load):
    # M/M/1: a call takes mean / (1 - load) on average.
    phase = Phase(seconds=2000.0, load=load)
    server, forever = Server(workers=1), Traffic(deadline=None)
    result = run(phase, service=EXPONENTIAL, server=server, traffic=forever)

    assert result.latency().mean == pytest.approx(0.02 / (1.0 - load), rel=0.07)


def test_calls_of_fixed_length_wait_half_as_long():
    # M/D/1: the wait is half of that of M/M/1.
    phase = Phase(seconds=2000.0, load=0.8)
    service = Service(kind="fixed", mean=0.02)
    result = run(phase, service=service, server=Server(workers=1), traffic=Traffic(deadline=None))

    assert result.latency().mean == pytest.approx(0.02 + 0.02 * 0.8 / 0.4, rel=0.05)


def test_sharing_processors_takes_as_long_as_theory_says():
    # M/M/1 with processor sharing: mean / (1 - load) as well.
    server = Server(workers=10_000, cores=1)
    phase = Phase(seconds=1000.0, load=0.7)
    result = run(phase, service=EXPONENTIAL, server=server, traffic=Traffic(deadline=None))

    assert result.latency().mean == pytest.approx(0.02 / 0.3, rel=0.1)


def test_closed_clients_are_as_many_calls_as_they_are():
    # Little: clients = throughput x (latency + pause).
    traffic = Traffic(deadline=None, clients=20, think=0.08)
    result = run(Phase(seconds=200.0), traffic=traffic)
    totals, latency = result.totals(), result.latency().mean

    assert totals.good / 200.0 * (latency + 0.08) == pytest.approx(20, rel=0.02)


def test_the_capacity_is_what_it_should_be_after_a_few_seconds():
    for kind in ("lognormal", "exponential", "fixed", "pareto"):
        result = run(
            Phase(seconds=5.0, load=3.0), service=Service(kind=kind), traffic=Traffic(deadline=None)
        )
        sample = next(sample for sample in result.samples if sample.at >= 5.0)

        assert sum(sample.counts.good) == pytest.approx(4000, rel=0.02), kind


def test_a_refusal_takes_its_time_of_the_workers():
    stack = source("concurrency_limit", concurrency_limit={"max_limit": 16})
    phases = (USUAL, Phase(seconds=5.0, load=10.0))
    dear = run(*phases, stack=stack, server=Server(refusal=0.001)).goodput(6.0, 10.0)
    cheap = run(*phases, stack=stack, server=Server(refusal=0.0)).goodput(6.0, 10.0)

    # 7200 refusals of 1 ms take 7.2 of 16 workers.
    assert dear == pytest.approx(cheap - 7.2 / 16, abs=0.08)


def test_a_bulkhead_lets_calls_wait_and_no_more_than_its_places_run():
    result = run(USUAL, Phase(seconds=5.0, load=2.0), stack=WAITING)
    inside = [sample for sample in result.samples if 6.0 < sample.at < 10.0]

    assert max(sample.in_flight for sample in inside) <= 16
    assert max(sample.queued for sample in inside) == 50
    assert result.goodput(5.0, 10.0) > 0.97
    assert all_ended(result)


def test_a_rate_limit_delays_what_comes_too_early():
    stack = source("rate_limit", rate_limit={"rate": 400.0, "max_wait": 0.1})
    result = run(Phase(seconds=10.0, load=1.0), stack=stack)

    assert result.totals(1.0, 10.0).good == pytest.approx(3600, rel=0.02)
    assert result.latency().p50 == pytest.approx(0.1 + 0.017, abs=0.01)
    assert all_ended(result)


@pytest.mark.parametrize("name", [*candidates(scenario(USUAL)), "composed"])
@pytest.mark.parametrize("side", ["open", "clients", "closed"])
def test_every_call_ends_in_one_way_and_every_permit_comes_back(name, side):
    known = candidates(scenario(USUAL))
    stack = known.get(name) or (WAITING if name == "composed" else None)
    if name == "composed":
        stack = source(
            "timeout + rate_limit + bulkhead + concurrency_limit",
            timeout={"seconds": 0.2},
            rate_limit={"rate": 900.0, "max_wait": 0.02},
            bulkhead={"max_concurrent": 12, "max_queue": 20, "max_wait": 0.05},
        )
    traffic = {
        "open": Traffic(),
        "clients": Traffic(clients=5),
        "closed": Traffic(clients=30, think=0.02),
    }[side]
    phases = (
        Phase(seconds=1.0, load=0.7),
        Phase(seconds=1.0, load=3.0, errors=0.1),
        Phase(seconds=0.3, stalled=True),
        Phase(seconds=0.5, dead=True),
        Phase(seconds=1.0, load=1.2, workers=3, slower=2.0, flap_every=0.2),
    )
    result = run(*phases, stack=stack, client=None if side == "open" else RETRIES, traffic=traffic)

    assert all_ended(result)
    assert result.totals().failed > 0


@settings(max_examples=30, deadline=None)
@given(
    load=st.floats(0.1, 4.0),
    workers=st.integers(1, 20),
    cores=st.none() | st.integers(1, 4),
    order=st.sampled_from(["fifo", "lifo"]),
    skips=st.booleans(),
    added=st.sampled_from([0.0, 0.02]),
    errors=st.sampled_from([0.0, 0.3]),
    think=st.none() | st.floats(0.0, 0.05),
    stack=st.sampled_from(
        [None, WAITING, source("concurrency_limit + bulkhead", bulkhead={"max_concurrent": 5})]
    ),
    client=st.sampled_from([None, RETRIES, HEDGED]),
    seed=st.integers(0, 1000),
)
def test_whatever_happens_every_call_ends_once(
    load, workers, cores, order, skips, added, errors, think, stack, client, seed
):
    result = run(
        Phase(seconds=0.5, load=load, added=added, errors=errors),
        Phase(seconds=0.2, load=load, burst_load=load * 3, burst_every=0.1, burst_seconds=0.03),
        server=Server(workers=workers, cores=cores, order=order, skips_expired=skips),
        traffic=Traffic(think=think, clients=4),
        stack=stack,
        client=client,
        seed=seed,
    )

    assert all_ended(result)


def test_a_stall_keeps_all_work_waiting_and_loses_none():
    phases = (Phase(seconds=2.0, load=0.5), Phase(seconds=1.0, load=0.0, stalled=True))
    result = run(*phases, traffic=Traffic(deadline=None))
    before, during = result.totals(0.0, 2.0), result.totals(2.0, 3.0)

    assert during.good == 0
    assert result.totals().good == before.offered
    assert result.latency().most > 1.0


def test_calls_whose_time_is_over_are_not_begun_where_the_server_looks():
    phase = Phase(seconds=5.0, load=2.0)
    skips = run(phase, server=Server(skips_expired=True))
    serves = run(phase)

    # They are begun just in time, and end too late: it takes less, and is of no more use.
    assert skips.latency().most < 0.5 < serves.latency().most
    assert max(skips.goodput(), serves.goodput()) < 0.2
    assert all_ended(skips)


def test_the_newest_first_is_better_than_the_oldest_under_overload():
    phase = Phase(seconds=5.0, load=2.0)

    assert run(phase, server=Server(order="lifo")).goodput() > 0.9


def test_retries_reach_the_server_and_are_paid_by_the_budget():
    naive = source(
        "retry + timeout",
        retry={"max_attempts": 4, "initial_backoff": 0.01, "budget": "x"} | {"idempotent": True},
        timeout={"seconds": 0.1},
    )
    naive = type(naive)(data=naive.data | {"budgets": {"x": {"cost": 0.0}}}, where="test")
    phases = (Phase(seconds=5.0, load=0.7, dead=True),)
    traffic = Traffic(deadline=2.0, clients=10)
    storm = run(*phases, client=naive, traffic=traffic).amplification()
    calm = run(*phases, client=RETRIES, traffic=traffic).amplification()

    assert storm == pytest.approx(4.0, abs=0.2)
    assert calm < 1.1


def test_a_client_tries_again_when_the_server_says_so():
    stack = source("rate_limit", rate_limit={"rate": 100.0, "burst": 1.0})
    phase = Phase(seconds=10.0, load=0.15)
    traffic = Traffic(deadline=1.0)
    retry = source("retry", retry={"max_attempts": 5})
    refused = run(
        phase, stack=stack, traffic=traffic, client=source("timeout", timeout={"seconds": 1.0})
    )
    repeated = run(phase, stack=stack, traffic=traffic, client=retry)

    assert repeated.totals().refused < refused.totals().refused
    assert repeated.amplification() > 1.0


def test_priorities_and_tenants_reach_the_policies_as_metadata():
    callers = (
        Caller(name="high", priority="high", share=1.0),
        Caller(name="low", priority="low", share=1.0, metadata={"x-tenant": "a"}),
    )
    ranked = {"max_concurrent": 16, "max_queue": 30, "max_wait": 0.1, "order": "priority"}
    result = run(
        USUAL,
        Phase(seconds=5.0, load=1.8),
        callers=callers,
        stack=source("bulkhead", bulkhead=ranked),
    )
    high, low = (result.totals(6.0, 10.0, name) for name in ("high", "low"))

    assert high.good / high.offered > 0.95
    assert low.good / low.offered < 0.3


def test_methods_go_to_their_own_stacks_and_take_their_own_time():
    callers = (Caller(method="a.A/Quick"), Caller(method="a.A/Slow", slower=5.0))
    stack = source("bulkhead", bulkhead={"max_concurrent": 1})
    routed = type(stack)(
        data={"stacks": stack.data["stacks"], "routes": {"a.A/Slow": "server"}}, where="test"
    )
    result = run(Phase(seconds=5.0, load=0.5), callers=callers, stack=routed)

    assert result.totals(caller="a.A/Quick").refused == 0
    assert result.totals(caller="a.A/Slow").refused > 0


def test_bursts_and_ramps_are_as_many_calls_as_they_say():
    bursts = Phase(seconds=50.0, load=0.5, burst_load=1.5, burst_every=1.0, burst_seconds=0.2)
    ramp = Phase(seconds=50.0, load=0.2, load_after=1.0)

    assert run(bursts).totals().offered == pytest.approx(0.7 * 800 * 50, rel=0.02)
    assert run(ramp).totals().offered == pytest.approx(0.6 * 800 * 50, rel=0.02)


def test_the_same_phase_twice_is_as_one_that_is_twice_as_long():
    phase = Phase(seconds=2.0, load=0.5, burst_load=2.0, burst_every=0.5, flap_every=0.5)
    long = Phase(seconds=4.0, load=0.5, burst_load=2.0, burst_every=0.5, flap_every=0.5)
    twice, once = run(phase, phase), run(long)

    assert twice.totals().offered == pytest.approx(once.totals().offered, rel=0.05)
    assert [at for at, _ in twice.capacities] == pytest.approx(
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    )


def test_what_is_possible_follows_a_backend_that_flaps():
    phase = Phase(seconds=8.0, load=0.7, slower=2.0, flap_every=2.0)

    assert run(phase).ideal(0.0, 8.0) == pytest.approx(800 * 4 * (0.5 + 0.7), rel=0.02)


def test_a_hedge_makes_a_slow_answer_quick_and_counts_as_one_call():
    hedge = source("hedge", hedge={"idempotent": True, "delay": 0.03})
    tail = Service(kind="pareto", mean=0.01, alpha=1.5)
    phase, traffic = Phase(seconds=20.0, load=0.2), Traffic(deadline=2.0)
    once = run(
        phase, service=tail, traffic=traffic, client=source("timeout", timeout={"seconds": 2})
    )
    hedged = run(phase, service=tail, traffic=traffic, client=hedge)

    assert hedged.latency().p99 < 0.8 * once.latency().p99
    assert 1.005 < hedged.amplification() < 1.1
    assert hedged.totals().offered == once.totals().offered
    assert all_ended(hedged)


def test_a_race_asks_all_sides_and_takes_the_first():
    race = source("timeout_a & timeout_b", timeout_a={"seconds": 1.0}, timeout_b={"seconds": 1.0})
    result = run(Phase(seconds=5.0, load=0.2), client=race, service=EXPONENTIAL)
    once = run(Phase(seconds=5.0, load=0.2), client=RETRIES, service=EXPONENTIAL)

    assert result.latency().mean < once.latency().mean
    assert result.amplification() > 1.05
    assert all_ended(result)


def test_no_permit_is_lost_or_given_back_twice_by_any_end_of_a_call():
    stacks = []

    def watched(clock):
        gates = RateLimit(700.0, 20.0, max_wait=0.02) + Bulkhead(12, max_queue=20, max_wait=0.05)
        expression = Bulkhead(60) if not stacks else gates
        stacks.append(Stack("shop", expression, clock=clock, registry=Registry()))
        return stacks[-1]

    phases = (
        Phase(seconds=0.5, load=1.5, errors=0.5),
        Phase(seconds=0.2, load=1.5, dead=True, errors=0.5),
        Phase(seconds=0.5, load=1.5, errors=0.5, added=0.05),
        Phase(seconds=0.2, load=1.5, stalled=True),
    )
    for _ in range(2):
        run(*phases, stack=Made(watched), server=Server(skips_expired=True), client=RETRIES)

    for stack in stacks:
        bulkhead = stack.policy("bulkhead")
        assert bulkhead.acquired > 300
        assert (bulkhead.in_flight, bulkhead.state(0.0)["queued"]) == (0, 0)


@pytest.mark.parametrize("client", [None, source("timeout", timeout={"seconds": 1.0})])
def test_a_timeout_of_the_server_ends_what_takes_longer(client):
    stacks = []

    def timed(clock):
        expression = Timeout(0.02) + Bulkhead(100)
        stacks.append(Stack("shop", expression, clock=clock, registry=Registry()))
        return stacks[-1]

    service = Service(kind="fixed", mean=0.03)
    result = run(Phase(seconds=2.0, load=0.2), service=service, stack=Made(timed), client=client)
    totals = result.totals()

    assert totals.late == totals.offered == stacks[0].policy("timeout").occurred > 100


def test_what_makes_no_sense_on_a_server_is_told_as_by_a_server():
    with pytest.raises(ConfigError, match="Retry makes no sense on a server"):
        run(USUAL, stack=RETRIES)


class Loop:
    """Halves the places of a bulkhead once a second, as a feedback loop might."""

    def __init__(self, stack):
        self.stack, self.due, self.asked = stack, 1.0, []

    def tick(self, now):
        self.asked.append((now, self.stack.recorder.traffic(60.0, now).calls))
        places = self.stack.parameters["bulkhead/max_concurrent"]
        places.set(places.get() // 2)
        self.due = now + 1.0

    def state(self, now):
        return {}


def test_feedback_loops_are_asked_when_they_are_due_and_see_the_calls():
    loops = []

    def steered(clock):
        stack = Stack("shop", Bulkhead(64), clock=clock, registry=Registry())
        loops.append(Loop(stack))
        stack.compiler.policies["loop"] = loops[-1]
        return stack

    result = run(Phase(seconds=3.5, load=0.5), stack=Made(steered))
    (loop,) = loops

    assert [now for now, _ in loop.asked] == [1.0, 2.0, 3.0]
    assert [calls for _, calls in loop.asked] == pytest.approx([400, 800, 1200], rel=0.15)
    limits = [next(s.limit for s in result.samples if s.at >= at) for at in (0.5, 1.5, 2.5, 3.4)]
    assert limits == [64, 32, 16, 8]


def test_clients_that_throttle_save_a_server_that_refusals_alone_would_fill():
    storm = load("client_throttle")
    alone = simulate(storm.with_stacks(client=None))
    throttled = simulate(storm)

    assert alone.measure(storm.marks[0]) < 0.05
    assert all(mark.reached(throttled.measure(mark)) for mark in storm.marks)
    assert throttled.amplification(6.0, 15.0) < 0.2


def test_a_loop_of_a_configuration_finds_the_size_of_a_bulkhead():
    size = {
        "law": "aimd",
        "parameter": "bulkhead/max_concurrent",
        "latency": 0.1,
        "interval": 1.0,
        "cooldown": 1.0,
    }
    wide = {"max_concurrent": 400}
    phases = (USUAL, Phase(seconds=25.0, load=2.0))
    alone = run(*phases, stack=source("bulkhead", bulkhead=wide))
    steered = run(*phases, stack=source("bulkhead", bulkhead=wide, loops={"size": size}))

    assert alone.goodput(25.0, 30.0) < 0.1
    assert steered.goodput(25.0, 30.0) > 0.95
    last = [sample.limit for sample in steered.samples if 25.0 < sample.at < 30.0]
    assert 20 < min(last) <= max(last) < 120


def test_a_scenario_of_no_calls_is_no_trouble():
    result = simulate(scenario(Phase(seconds=1.0, load=0.0), stack=WAITING))

    assert (result.totals().offered, result.goodput(), result.amplification()) == (0, 1.0, 1.0)
    assert result.latency().mean == 0.0


def test_a_closed_client_that_is_refused_at_once_calls_again_and_again_but_not_without_an_end():
    result = run(
        Phase(seconds=0.5),
        client=source("rate_limit", rate_limit={"rate": 10.0, "burst": 1.0}),
        traffic=Traffic(clients=1, think=0.0),
    )

    totals = result.totals()
    assert 4 <= totals.good <= 7
    assert 100 < totals.refused < 6000
    assert all_ended(result)


def test_sensors_of_the_machine_say_nothing_of_a_server_that_is_made_up(monkeypatch):
    for sensor in (pressure.Memory, pressure.Cpu, pressure.Stall):
        monkeypatch.setattr(sensor, "read", lambda _: 0.99)
    before = set(threading.enumerate())
    loop = {
        "law": "governor",
        "parameter": "bulkhead/max_concurrent",
        "full": 100.0,
        "gauge": "memory",
        "interval": 0.1,
    }
    stack = source(
        "load_shed + bulkhead", bulkhead={"max_concurrent": 20}, loops={"by_memory": loop}
    )

    result = run(Phase(seconds=1.0, load=0.5), stack=stack)

    assert result.totals().refused == 0
    assert {sample.limit for sample in result.samples} == {20}
    assert set(threading.enumerate()) <= before


def test_what_lasts_for_days_is_noted_less_often():
    result = simulate(scenario(Phase(seconds=1e6, load=0.0)))

    assert 30_000 < len(result.samples) < 40_000
