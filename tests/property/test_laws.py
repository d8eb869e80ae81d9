"""What holds for every law: bounds, no growth while idle, a new level is found and kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninelives_grpc import CircuitBreaker, RateLimit, Retry, laws
from ninelives_grpc.laws.pid import Measure
from tests.property.plants import Concurrent, Scripted, Served, looped, reversals, values_of
from tests.unit.steered import Steered, reading

LAWS = {
    "aimd": laws.AimdLaw(latency=0.03),
    "breaker_threshold": laws.BreakerThresholdLaw(enabled=True),
    "bulkhead_size": laws.BulkheadSizeLaw(0.03),
    "governor": laws.GovernorLaw(100.0),
    "gradient": laws.GradientLaw(),
    "health_rate": laws.HealthRateLaw(100.0, latency=0.03),
    "open_time": laws.OpenTimeLaw(),
    "pid": laws.PidLaw(0.03, derivative=0.1),
    "prediction": laws.PredictionLaw(latency=0.03),
    "retry_budget": laws.RetryBudgetLaw(),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
SIZES = ("aimd", "bulkhead_size", "gradient", "pid")
every_size = pytest.mark.parametrize("law", [LAWS[name] for name in SIZES], ids=SIZES)
few = settings(max_examples=10)
"""For those of several hundred looks each."""
READINGS = st.lists(
    st.builds(
        dict,
        calls=st.integers(10, 10_000),
        failed=st.floats(0.0, 1.0),
        refused=st.floats(0.0, 1.0),
        p50=st.floats(1e-6, 100.0),
        slowest=st.floats(1.0, 100.0),
        used=st.none() | st.floats(0.0, 1.0),
        gauge=st.floats(0.0, 2.0),
        recoveries=st.lists(st.floats(0.0, 1000.0), max_size=3).map(tuple),
    ),
    max_size=20,
)


class Told:
    """A plant that shows what it is told to show."""

    def __init__(self, readings):
        self._readings = iter(readings)

    def reading(self, at, limit):
        told = dict(next(self._readings))
        refusals = round(told.pop("refused") * told["calls"])
        failures = round(told.pop("failed") * (told["calls"] - refusals))
        p99 = told["p50"] * told.pop("slowest")
        return reading(at=at, refusals=refusals, failures=failures, p99=p99, **told)


@every_law
@given(readings=READINGS, start=st.floats(2.0, 50.0))
def test_a_value_never_leaves_its_bounds_and_no_law_fails_whatever_is_seen(law, readings, start):
    world = Steered(law, RateLimit(start), "rate_limit/rate", bounds=(2.0, 50.0), gauge=float)
    world.loop._readings = Scripted(world.loop, Told(readings))

    for value in values_of(world, len(readings)):
        assert 2.0 <= value <= 50.0

    assert world.loop.errors == 0


@every_size
@given(used=st.floats(0.0, 0.49), calls=st.integers(10, 1000), looks=st.integers(1, 30))
def test_a_size_never_grows_while_it_is_not_used(law, used, calls, looks):
    unused = {"calls": calls, "used": used, "failed": 0.0, "refused": 0.0, "p50": 0.01}
    world = looped(law, Told([unused | {"slowest": 1.0}] * looks), start=20)

    values = values_of(world, looks)

    assert values == sorted(values, reverse=True)
    assert values[0] <= 20


@every_law
def test_nothing_moves_while_nobody_calls(law):
    gauge = (lambda: 0.66) if law.needs_gauge else None
    world = Steered(law, RateLimit(20.0), "rate_limit/rate", gauge=gauge)

    # A governor goes by its gauge, and sets what that allows at once.
    assert set(values_of(world, 20)) == {100.0 if law.needs_gauge else 20.0}


CONVERGING = {
    # Where each law ends up over a backend that can do `knee` at once, as a multiple of that.
    "aimd": (laws.AimdLaw(latency=0.03), 1.2, 1.6),
    "bulkhead_size": (laws.BulkheadSizeLaw(0.03), 1.2, 1.8),
    "gradient": (laws.GradientLaw(), 1.2, 2.4),
    "pid": (laws.PidLaw(0.03, proportional=4.0, integral=4.0), 1.4, 1.6),
}
converging = pytest.mark.parametrize(
    ("law", "least", "most"), CONVERGING.values(), ids=list(CONVERGING)
)


@converging
@few
@given(before=st.integers(10, 60), after=st.integers(10, 60), start=st.integers(5, 200))
def test_a_size_finds_the_new_level_after_a_step_and_stays_there(
    law, least, most, before, after, start
):
    plant = Concurrent(knee=before)
    # What is usual to begin with is what a gradient goes by.
    world = looped(law, plant, min(start, before) if isinstance(law, laws.GradientLaw) else start)
    values_of(world, 120)
    plant.knee = after

    values_of(world, 120)

    settled = values_of(world, 50)
    assert all(least * after - 2 <= value <= most * after + 2 for value in settled)


@pytest.mark.parametrize("law", [law for law, _, _ in CONVERGING.values()], ids=list(CONVERGING))
@few
@given(knee=st.integers(10, 60), start=st.integers(5, 200))
def test_a_size_does_not_oscillate(law, knee, start):
    world = looped(law, Concurrent(knee=knee), start)
    approach, settled = values_of(world, 120), values_of(world, 80)

    if isinstance(law, laws.AimdLaw):
        # Additive increase and multiplicative decrease saw; teeth are not higher than a cut.
        assert min(settled) >= max(settled) * law.backoff - law.increase
    else:
        assert reversals(approach) <= 4
        assert reversals(settled) == 0


@few
@given(capacity=st.floats(20.0, 80.0), start=st.floats(10.0, 100.0))
def test_a_rate_by_health_settles_a_little_over_what_the_backend_can_do(capacity, start):
    world = looped(laws.HealthRateLaw(100.0), Served(capacity), start, bounds=(1.0, 100.0))
    values_of(world, 80)

    settled = values_of(world, 50)
    # A step is two percent of a hundred.
    assert all(0.95 * capacity - 2 <= value <= capacity / 0.98 + 2.1 for value in settled)


@few
@given(capacity=st.floats(20.0, 80.0))
def test_a_rate_by_health_is_whole_again_after_the_backend_is(capacity):
    plant = Served(capacity)
    world = looped(laws.HealthRateLaw(100.0), plant, 100.0, bounds=(1.0, 100.0))
    values_of(world, 80)
    plant.capacity = 1000.0

    values = values_of(world, 60)

    assert values == sorted(values)
    assert values[-1] == pytest.approx(100.0, rel=0.02)


@few
@given(load=st.integers(5, 50), after=st.integers(5, 50))
def test_a_size_by_prediction_settles_at_the_headroom_over_the_load(load, after):
    plant = Concurrent(knee=1000.0, demand=load)
    world = looped(laws.PredictionLaw(headroom=2.0, used_from=0.0), plant, start=20)
    values_of(world, 80)
    plant.demand = after

    values_of(world, 120)

    settled = values_of(world, 20)
    assert reversals(settled) == 0
    assert all(2.0 * after - 1 <= value <= 2.0 * after + 6 for value in settled)


@given(
    pressures=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60),
    calm=st.integers(30, 60),
)
def test_a_governor_gives_all_back_when_the_pressure_is_gone(pressures, calm):
    found = iter([*pressures, *[0.5] * calm])
    world = Steered(
        laws.GovernorLaw(100.0), RateLimit(100.0), "rate_limit/rate", gauge=lambda: next(found)
    )
    during = values_of(world, len(pressures))
    after = values_of(world, calm)

    assert all(5.0 <= value <= 100.0 for value in during)
    assert after == sorted(after)
    assert after[-1] == 100.0 or calm < 20
    assert reversals(after) == 0


@given(error_rates=st.lists(st.sampled_from([0.0, 0.005, 0.03, 0.2]), max_size=40))
def test_a_threshold_stays_within_its_own_narrow_bounds(error_rates):
    told = [
        {"calls": 1000, "failed": rate, "refused": 0.0, "p50": 0.01, "slowest": 1.0}
        for rate in error_rates
    ]
    world = Steered(
        laws.BreakerThresholdLaw(enabled=True),
        CircuitBreaker(),
        "circuit_breaker/failure_rate_threshold",
    )
    world.loop._readings = Scripted(world.loop, Told(told))

    for value in values_of(world, len(told)):
        assert 0.3 <= value <= 0.7


@few
@given(gain=st.floats(0.1, 5.0), looks=st.integers(2, 20))
def test_new_settings_of_a_pid_do_not_make_the_value_jump(gain, looks):
    plant = Concurrent(knee=40)
    world = looped(
        laws.PidLaw(0.03, proportional=4.0, integral=4.0, measure=Measure.P99), plant, 20
    )
    values_of(world, 80)
    before = world.handle.get()

    world.registry.change({"s/pid/proportional": gain * 10, "s/pid/derivative": gain})

    after = values_of(world, looks)
    assert all(abs(value - before) <= 1 for value in after)


def answering(failed, looks):
    """Return what a backend shows of which a share fails whatever is sent."""
    told = {"calls": 1000, "failed": failed, "refused": 0.0, "p50": 0.01, "slowest": 1.0}
    return [told] * looks


@few
@given(before=st.floats(0.0, 1.0), after=st.floats(0.0, 1.0))
def test_a_retry_budget_finds_what_a_success_rate_stands_for_and_stays_there(before, after):
    law = laws.RetryBudgetLaw()
    world = Steered(law, Retry(), "retry_budget/ratio")
    world.loop._readings = Scripted(world.loop, Told(answering(before, 40) + answering(after, 60)))
    values_of(world, 40)

    values = values_of(world, 60)

    share = min(max((1.0 - after - law.bad) / (law.good - law.bad), 0.0), 1.0)
    expected = law.least + share * (law.most - law.least)
    assert values[-1] == pytest.approx(expected, rel=0.03)
    assert reversals(values) == 0


@few
@given(failed=st.floats(0.0, 1.0), start=st.floats(0.3, 0.7))
def test_a_threshold_goes_one_way_while_errors_stay_as_they_are(failed, start):
    world = Steered(
        laws.BreakerThresholdLaw(enabled=True),
        CircuitBreaker(failure_rate_threshold=start),
        "circuit_breaker/failure_rate_threshold",
    )
    world.loop._readings = Scripted(world.loop, Told(answering(failed, 30)))

    values = values_of(world, 30)

    assert reversals([start, *values]) == 0
    rate = round(failed * 1000) / 1000
    if not 0.01 <= rate <= 0.05:
        assert values[-1] == pytest.approx(0.7 if rate < 0.01 else 0.3)


@pytest.mark.parametrize("name", ["aimd", "bulkhead_size"])
@few
@given(knee=st.integers(10, 60), start=st.integers(5, 200), slow=st.floats(2.0, 20.0))
def test_a_target_that_no_size_reaches_does_not_shrink_a_size_to_nothing(name, knee, start, slow):
    plant = Concurrent(knee=knee, base=0.015 * slow)
    world = looped(LAWS[name], plant, start)

    values = sorted(values_of(world, 150))

    # It looks for a while whether less helps, and goes back to what it was.
    assert values[75] >= 0.5 * min(knee, start)


@few
@given(before=st.floats(1.0, 60.0), after=st.floats(1.0, 60.0))
def test_an_open_time_goes_to_its_share_of_the_new_time_down_and_turns_round_once_at_most(
    before, after
):
    usual = {"calls": 20, "failed": 0.0, "refused": 0.0, "p50": 0.01, "slowest": 1.0}
    seen = [usual | {"recoveries": (before,)}] * 20 + [usual | {"recoveries": (after,)}] * 40
    breaker = CircuitBreaker(max_open_duration=25.0)
    world = Steered(laws.OpenTimeLaw(), breaker, "circuit_breaker/open_duration")
    world.loop._readings = Scripted(world.loop, Told(seen))
    values_of(world, 20)

    values = values_of(world, 40)

    # No longer than the breaker itself may be open.
    assert values[-1] == pytest.approx(min(0.5 * after, 25.0), rel=0.05)
    assert world.loop.errors == 0
    # The deviation grows at first, and has the breaker ask early until it is known for sure.
    assert reversals(values) <= 1
