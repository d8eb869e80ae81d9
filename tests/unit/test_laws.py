"""What each law says to what it is told; `tests/property/test_laws.py` has what holds for all."""

import contextlib

import pytest

from ninelives_grpc import Bulkhead, CircuitBreaker, ConfigError, RateLimit, Refused, Retry, laws
from ninelives_grpc.laws.holt import Holt
from tests.property.plants import Concurrent, looped, values_of
from tests.unit.steered import Steered, reading


def asked(law, current, *readings):
    """Return what a law says to readings, one after the other, of which each answer is taken."""
    running, said = law.start(), []
    for each in readings:
        answer = running.calculate(each, current)
        said.append(answer)
        current = current if answer is None else answer
    return said


def test_aimd_adds_while_all_is_well_and_used_and_cuts_when_it_is_not():
    law = laws.AimdLaw(latency=0.1, increase=2.0, backoff=0.5)

    assert asked(
        law,
        10.0,
        reading(used=1.0),
        reading(used=0.1),
        reading(used=1.0, failures=10),
        reading(used=1.0, p99=0.2),
        reading(used=1.0, p99=0.05),
    ) == [12.0, None, 6.0, 3.0, 5.0]


def test_aimd_says_why():
    running = laws.AimdLaw(latency=0.1).start()

    running.calculate(reading(failures=10), 10.0)
    assert running.reason == "10.0% of the calls failed, more than 5.0%"
    running.calculate(reading(p99=0.2), 10.0)
    assert running.reason == "p99 is 0.2 s, more than 0.1 s"


def test_calls_that_a_policy_refused_are_no_failures():
    metrics = reading(calls=100, refusals=90, failures=0)

    assert metrics.success_rate == 1.0
    assert asked(laws.AimdLaw(), 10.0, metrics) == [11.0]


def test_cuts_that_do_not_make_calls_quicker_are_taken_back_and_not_tried_again():
    law = laws.AimdLaw(latency=0.1, backoff=0.5)
    slow = reading(p50=0.2)

    # 4 is less than 0.6 of 8, and a look later latency has not followed.
    said = asked(law, 8.0, slow, slow, slow, slow, reading(p50=0.3))

    assert said == [4.0, None, 8.0, None, 4.0]


def test_cuts_of_no_use_are_tried_again_after_a_while():
    law = laws.AimdLaw(latency=0.1, backoff=0.5)

    said = asked(law, 8.0, *[reading(p50=0.2)] * 104)

    assert said == [4.0, None, 8.0, *[None] * 99, 4.0, None]


def test_cuts_that_make_calls_quicker_go_on():
    law = laws.AimdLaw(latency=0.1, backoff=0.5)
    p50 = (0.8, 0.4, 0.4, 0.2, 0.2, 0.1)

    said = asked(law, 64.0, *(reading(p50=each, used=0.0) for each in p50))

    assert said == [32.0, None, 16.0, None, 8.0, None]


def test_a_gradient_cuts_when_calls_become_slower_than_usual():
    usual, slow = reading(p50=0.01), reading(p50=0.03)

    first, second, third = asked(laws.GradientLaw(smoothing=1.0), 100.0, usual, usual, slow)

    assert (first, second) == (None, None) or second > 100.0
    assert third == pytest.approx((second or 100.0) * 0.5, rel=0.25)


def test_what_is_slow_while_the_limit_is_not_used_is_usual():
    running = laws.GradientLaw().start()
    running.calculate(reading(p50=0.01, used=0.1), 100.0)

    for _ in range(20):
        running.calculate(reading(p50=0.03, used=0.1), 100.0)

    assert running.state()["usual_latency"] == pytest.approx(0.03, rel=0.01)


def test_a_pid_goes_by_the_error_and_by_the_change_of_the_measure():
    law = laws.PidLaw(0.1, proportional=2.0, integral=1.0)

    said = asked(law, 10.0, reading(at=0.0, p99=0.05), reading(at=1.0, p99=0.08))

    # -2 x 0.3 for the change, and 1 x 0.2 for the error that is left.
    assert said == [None, pytest.approx(10.0 - 0.6 + 0.2)]


def test_a_pid_with_a_derivative_holds_back_what_becomes_faster():
    law = laws.PidLaw(0.1, proportional=0.0, integral=0.0, derivative=1.0)
    p99 = (0.05, 0.05, 0.09)

    said = asked(law, 10.0, *(reading(at=float(at), p99=each) for at, each in enumerate(p99)))

    assert said == [None, None, pytest.approx(9.6)]


def test_nothing_winds_up_in_a_pid_while_the_value_is_at_its_bound():
    running = laws.PidLaw(0.1, proportional=2.0, integral=1.0).start()
    for at in range(100):
        # The bound keeps it at 10 whatever is said.
        running.calculate(reading(at=float(at), p99=0.05), 10.0)

    said = running.calculate(reading(at=100.0, p99=0.2), 10.0)

    assert said == pytest.approx(10.0 - 2.0 * 1.5 - 1.0)


def test_a_pid_holds_a_gauge_also_when_nobody_calls():
    world = Steered(
        laws.PidLaw(0.5, measure="gauge", integral=10.0), Bulkhead(10), gauge=lambda: 0.25
    )
    for _ in range(3):
        world.tick()

    assert world.handle.get() == 20
    assert world.told("LoopPaused") == []


def test_a_retry_budget_is_as_generous_as_the_backend_does_well():
    law = laws.RetryBudgetLaw(smoothing=1.0, least=0.0, most=0.2, bad=0.5, good=1.0)

    assert asked(
        law, 0.1, reading(), reading(failures=25), reading(failures=80), reading(calls=0)
    ) == pytest.approx([0.2, 0.1, 0.0, None])


def test_a_retry_budget_in_a_stack_follows_its_success_rate():
    world = Steered(laws.RetryBudgetLaw(smoothing=1.0), Retry(1), "retry_budget/ratio")
    world.calls(20)
    world.tick()
    assert world.handle.get() == pytest.approx(0.2)
    world.calls(20, failing=20)

    world.tick()

    assert world.handle.get() == pytest.approx(0.01)


def test_a_rate_by_health_falls_to_what_is_answered_well():
    law = laws.HealthRateLaw(100.0, latency=0.1)

    assert asked(
        law,
        100.0,
        reading(at=0.0, failures=30),
        reading(at=1.0, p99=0.2),
        reading(at=2.0, used=1.0),
        reading(at=3.0, failures=90),
    ) == pytest.approx([70.0, 35.0, 37.0, 18.5])


def test_a_rate_under_which_nothing_is_let_through_rises_to_find_out():
    nothing = reading(at=0.0, calls=100, refusals=100, used=1.0)

    assert asked(laws.HealthRateLaw(100.0), 5.0, nothing) == [7.0]


def down_for(world, seconds):
    """Let a backend be down for so long, as a caller sees it who calls ten times a second."""
    back = world.clock.now() + seconds

    def backend():
        world.clock.advance(0.001)
        if world.clock.now() < back:
            raise ConnectionError

    closed = world.stack.policy("circuit_breaker").recovered
    while world.stack.policy("circuit_breaker").recovered == closed:
        world.clock.advance(0.1)
        with contextlib.suppress(ConnectionError, Refused):
            world.stack.call(backend)


def test_the_open_time_follows_how_long_a_backend_is_down():
    breaker = CircuitBreaker(
        consecutive_failures=3, jitter=0.0, max_open_duration=60.0, healthy_after=0.0
    )
    world = Steered(laws.OpenTimeLaw(), breaker, "circuit_breaker/open_duration", interval=600.0)
    for seconds in (8.0, 2.0, 20.0):
        for _ in range(12):
            down_for(world, seconds)
            world.tick()
        assert 0.3 * seconds <= world.handle.get() <= 0.8 * seconds
    assert world.state["recoveries"] == 36


def test_a_breaker_knows_how_long_its_backend_was_down():
    breaker = CircuitBreaker(consecutive_failures=3, jitter=0.0)
    world = Steered(laws.OpenTimeLaw(), breaker, "circuit_breaker/open_duration")

    down_for(world, 3.0)

    assert list(world.stack.policy("circuit_breaker").recoveries) == [pytest.approx(3.0, abs=1.0)]


def test_a_threshold_law_is_off_until_it_is_turned_on():
    world = Steered(
        laws.BreakerThresholdLaw(), CircuitBreaker(), "circuit_breaker/failure_rate_threshold"
    )
    before = world.handle.get()
    world.calls(20)
    world.tick()
    assert world.handle.get() == before
    world.stack.parameters["breaker_threshold/enabled"].set(True)
    world.calls(20)

    world.tick()

    assert world.handle.get() == pytest.approx(before + 0.05)


def test_a_threshold_rises_below_one_percent_of_errors_and_falls_above_five():
    law = laws.BreakerThresholdLaw()

    assert asked(law, 0.5, reading(), reading(failures=3), reading(failures=10)) == pytest.approx(
        [0.55, None, 0.5]
    )


def test_a_bulkhead_goes_some_of_the_way_to_where_its_slowest_calls_are_as_wanted():
    law = laws.BulkheadSizeLaw(0.1, smoothing=0.5)

    assert asked(
        law,
        100.0,
        reading(p99=0.1),
        reading(p99=0.2),
        reading(p99=0.05, used=0.1),
        reading(p99=0.05, used=0.9),
    ) == pytest.approx([None, 75.0, None, 84.375])


def test_a_governor_cuts_by_stages_waits_and_rises_by_time():
    law = laws.GovernorLaw(100.0)
    told = [(0, 0.6), (1, 0.75), (1.5, 0.95), (2.5, 0.95), (3, 0.95), (8, 0.8), (9, 0.68)]

    said = asked(law, 100.0, *(reading(at=at, gauge=gauge) for at, gauge in told))

    assert said == pytest.approx([100.0, 50.0, 50.0, 25.0, 25.0, 20.0, 20.0])
    running = law.start()
    for at, gauge in ((0.0, 0.8), (1.0, 0.6), (3.0, 0.6)):
        running.calculate(reading(at=at, gauge=gauge), 100.0)
    assert running.state()["share"] == pytest.approx(0.5 + 3 * 0.05)


def test_a_governor_says_in_which_condition_it_is():
    running = laws.GovernorLaw(100.0).start()
    found = []
    for at, gauge in ((0.0, 0.1), (1.0, 0.8), (2.0, 0.5), (30.0, 0.5)):
        running.calculate(reading(at=at, gauge=gauge), 100.0)
        found.append(str(running.condition))

    assert found == ["normal", "degraded", "recovering", "normal"]


def test_the_marks_of_a_governor_have_an_order():
    with pytest.raises(ConfigError, match="must be in that order"):
        laws.GovernorLaw(1.0, relaxed=0.8)


def test_a_governor_moves_a_parameter_by_a_gauge():
    pressure = [0.1]
    world = Steered(
        laws.GovernorLaw(200.0), RateLimit(200.0), "rate_limit/rate", gauge=lambda: pressure[0]
    )
    world.tick()
    pressure[0] = 0.8

    world.tick()

    assert world.handle.get() == 100.0
    assert world.state["condition"] == "degraded"


def test_a_gauge_that_does_not_know_leaves_the_value():
    world = Steered(
        laws.GovernorLaw(200.0), RateLimit(150.0), "rate_limit/rate", gauge=lambda: None
    )

    assert [world.tick() for _ in range(3)] == [None] * 3
    assert world.state["errors"] == 0


WEIGHTS = {"level": 0.5, "trend": 0.5, "error": 0.2}


def test_a_forecast_of_a_straight_line_is_right():
    series = Holt()
    for at in range(60):
        series.add(float(at), 10.0 + 2.0 * at, **WEIGHTS)
        series.foretell(5.0, 1.0)

    assert series.forecast == pytest.approx(10.0 + 2.0 * 64, rel=0.001)
    assert series.mean_error == pytest.approx(0.0, abs=0.01)
    assert series.naive_error == pytest.approx(10.0, abs=0.1)


def test_a_forecast_that_is_late_has_a_bias():
    series = Holt()
    for at in range(60):
        # A trend of which nothing is left at the end of the way counts for half of it.
        series.add(float(at), 2.0 * at, **WEIGHTS)
        series.foretell(10.0, 0.0)

    assert series.bias == pytest.approx(10.0, rel=0.05)
    assert series.mean_error == pytest.approx(10.0, rel=0.05)


def test_readings_may_come_at_any_distance():
    series = Holt()
    for at in (0.0, 1.0, 4.0, 4.5, 9.0, 15.0, 16.0, 20.0):
        series.add(at, 5.0 + 3.0 * at, level=1.0, trend=1.0, error=0.2)

    assert series.foretell(10.0, 1.0) == pytest.approx(5.0 + 3.0 * 30.0)


def test_a_size_grows_before_the_load_has_come():
    law = laws.PredictionLaw(headroom=1.0, horizon=10.0, smoothing=1.0, trend=1.0, damping=1.0)
    ramp = [
        reading(at=float(at), calls=1000 + 100 * at, mean=0.01, p50=0.01, used=0.9)
        for at in range(5)
    ]

    said = asked(law, 10.0, *ramp)

    # 14 run at once by the last reading, and one more each second.
    assert said[-1] == pytest.approx(24.0)


def ramp(law):
    """Return in how many looks of a growing load a size was too small, after the first few."""
    plant = Concurrent(knee=1e6, demand=10.0)
    world = looped(law, plant, 20)
    values_of(world, 10)
    short = 0
    for look in range(60):
        plant.demand = 10.0 + 3.0 * look
        short += look > 10 and world.handle.get() < plant.demand
        world.tick()
    return short


def test_a_size_by_the_trend_is_there_when_the_load_comes_and_one_without_is_late():
    ahead = laws.PredictionLaw(headroom=1.0, horizon=3.0, damping=1.0)
    late = laws.PredictionLaw(headroom=1.0, horizon=3.0, trend=0.0)

    assert ramp(ahead) == 0
    assert ramp(late) > 40


def test_a_size_is_cut_before_calls_take_too_long():
    law = laws.PredictionLaw(latency=0.1, horizon=10.0, smoothing=1.0, trend=1.0, damping=1.0)
    running = law.start()
    for at in range(3):
        said = running.calculate(reading(at=float(at), p50=0.05 + 0.01 * at, used=0.9), 100.0)

    assert said == pytest.approx(100.0 * 0.7)
    assert running.reason.startswith("half of the calls will take 0.17 s in 10 s")


def test_forecasts_and_how_wrong_they_were_are_told():
    world = Steered(laws.PredictionLaw(horizon=1.0), interval=1.0)
    for _ in range(6):
        world.calls(20)
        world.tick()

    state = world.state
    assert state["latency_forecast"] == pytest.approx(0.01, rel=0.05)
    assert state["load_mean_error"] is not None
    assert state["load_bias"] is not None


def test_a_rate_limit_that_is_tuned_keeps_what_was_let_through():
    law = laws.HealthRateLaw(10.0)
    world = Steered(law, RateLimit(10.0, 10.0), "rate_limit/rate", interval=0.1)
    world.calls(10, takes=0.0, failing=5)
    before = world.stack.policy_state("rate_limit").values["available"]

    change = world.tick()

    assert change.new == pytest.approx(5.0)
    # A tenth of a second at ten a second has come back, and no burst is given away.
    assert before == pytest.approx(0.0)
    assert world.stack.policy_state("rate_limit").values["available"] == pytest.approx(1.0)
    world.stack.call(world.clock.now)
    with pytest.raises(Refused):
        world.stack.call(world.clock.now)


def test_a_bulkhead_grows_also_by_calls_that_take_no_time_at_all():
    assert asked(laws.BulkheadSizeLaw(0.1), 100.0, reading(p50=0.0)) == pytest.approx([107.5])
