"""The other laws, by the formulas that their authors give."""

import math

import pytest

from ninelives_grpc import ConcurrencyLimit
from ninelives_grpc.policies.concurrency_limit import LAWS, Algorithm

EVERY = pytest.mark.parametrize("algorithm", Algorithm)


class Driver:
    """A law, and windows of twenty calls each."""

    def __init__(self, algorithm, limit=20, **settings):
        self.policy = ConcurrencyLimit(algorithm=algorithm, **settings)
        self.law = LAWS[algorithm](lambda: self.policy, limit)
        self.now = 0.0
        self.one(0.01, 0, None)

    def one(self, latency, peak, remaining):
        permit = self.law.on_admit("m", peak, remaining, self.now)
        self.law.on_settle(permit, latency, 0, self.now)

    def window(self, latency, *, peak=1000, remaining=None, dropped=0):
        """Have twenty calls end in 0.1 s; returns the limit then."""
        start = self.now
        for _ in range(dropped):
            permit = self.law.on_admit("m", peak, remaining, start)
            self.law.on_drop(permit, 0, start)
        for number in range(1, 21):
            self.now = start + 0.1 * number / 20
            self.one(latency, peak, remaining)
        return self.law.limit


@EVERY
def test_it_says_what_it_does(algorithm):
    assert LAWS[algorithm].__doc__
    assert LAWS[algorithm](ConcurrencyLimit, 20).reason == "start"


@pytest.mark.parametrize("algorithm", ["aimd", "vegas", "gradient2", "envoy"])
def test_the_limit_is_not_raised_unless_half_of_it_is_used(algorithm):
    driver = Driver(algorithm)
    # Envoy's measures with its first 50 calls.
    for _ in range(9):
        driver.window(0.01, peak=9)
    unused = driver.law.limit

    used = driver.window(0.01, peak=10)

    assert unused == 20
    assert used > 20


def test_aimd_adds_one_and_takes_a_tenth():
    driver = Driver("aimd")

    limits = [
        driver.window(0.01),
        driver.window(0.01, dropped=1),
        driver.window(0.01, dropped=100),
        driver.window(0.01),
    ]

    assert limits == pytest.approx([21.0, 18.9, 17.01, 18.01])


@pytest.mark.parametrize(
    ("settings", "latency", "limit"),
    [
        ({}, 0.099, 21.0),
        ({}, 0.101, 18.0),
        ({"deadline_share": 0.6}, 0.101, 21.0),
        ({"aimd_latency": 0.05}, 0.051, 18.0),
        ({"aimd_latency": 0.05}, 0.049, 21.0),
    ],
)
def test_aimd_cuts_when_calls_take_long(settings, latency, limit):
    driver = Driver("aimd", **settings)

    assert driver.window(latency, remaining=0.2) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("latency", "change"),
    [
        # A limit of 100, of which log10 is 2: the queue is 100 x (1 - 10 ms / latency).
        (0.0101, 12.0),  # 1: none to speak of
        (0.0105, 2.0),  # 5, below alpha x 2 = 6
        (0.0110, 0.0),  # 10, between
        (0.0115, -2.0),  # 14, above beta x 2 = 12
        (0.0500, -2.0),
    ],
)
def test_vegas_keeps_a_few_calls_in_the_queue(latency, change):
    driver = Driver("vegas", 100)
    driver.window(0.01)

    assert driver.window(latency) == 100 + change
    assert driver.law.base == pytest.approx(0.01)


def test_vegas_takes_some_away_when_the_backend_refuses():
    driver = Driver("vegas", 100)
    driver.window(0.01)

    assert driver.window(0.0101, dropped=1) == 98.0


def test_vegas_measures_its_base_again_now_and_then():
    driver = Driver("vegas", 100, vegas_probe=2.0)
    driver.window(0.01)

    for _ in range(9):
        driver.window(0.02)

    assert driver.law.base == pytest.approx(0.02)


def test_gradient2_compares_with_a_long_average():
    driver = Driver("gradient2")

    first = driver.window(0.01)
    slow = driver.window(0.04)

    # (0.01 + 0.04) / 2 after two windows; 1.5 x 25 / 40 ms = 0.9375; a fifth of the way.
    assert first == pytest.approx(20 + 0.2 * 4)
    assert driver.law.base == pytest.approx(0.025)
    assert slow == pytest.approx(first + 0.2 * (first * 0.9375 + 4 - first))


def test_gradient2_halves_at_most():
    driver = Driver("gradient2", 100)
    for _ in range(20):
        driver.window(0.01, peak=0)

    assert driver.window(1.0) == pytest.approx(100 + 0.2 * (50 + 4 - 100))


def test_the_long_average_of_gradient2_falls_faster_when_it_is_stale():
    driver = Driver("gradient2")
    driver.window(0.1)
    for _ in range(9):
        driver.window(0.1)

    driver.window(0.01)

    moved = 0.1 + 2 / 601 * (0.01 - 0.1)
    assert driver.law.base == pytest.approx(0.95 * moved)


def measured(limit=20, **settings):
    """Envoy's law after it has measured calls of 10 ms."""
    driver = Driver("envoy", limit, **settings)
    driver.window(0.01)
    driver.measuring = driver.law.limit
    while driver.law.reason == "measuring":
        driver.now += 0.01
        driver.one(0.01, 0, None)
    return driver


def test_envoy_measures_with_few_calls_and_goes_on_from_where_it_was():
    driver = measured()

    assert driver.measuring == 3.0
    assert driver.law.limit == 20.0
    assert driver.law.base == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("latency", "gradient"), [(0.0125, 1.0), (0.01, 1.25), (0.02, 0.625), (0.1, 0.5), (0.001, 2.0)]
)
def test_envoy_follows_the_gradient_and_leaves_room_for_its_root(latency, gradient):
    driver = measured(100)

    limit = driver.window(latency)

    assert limit == pytest.approx(100 * gradient + math.sqrt(100 * gradient))


def test_envoy_goes_by_the_median_and_not_by_the_mean():
    driver = measured(100)
    start = driver.now
    for number in range(1, 21):
        driver.now = start + 0.1 * number / 20
        driver.one(9.0 if number <= 9 else 0.0125, 1000, None)

    assert driver.law.limit == pytest.approx(110.0)


def test_envoy_does_not_measure_by_calls_that_began_before():
    driver = Driver("envoy")
    driver.window(0.01)

    for _ in range(10):
        driver.window(9.0)

    assert driver.law.reason == "measuring"


@pytest.mark.parametrize(("after", "reason"), [(59.0, "used"), (61.0, "measuring")])
def test_envoy_measures_again_after_a_while(after, reason):
    driver = measured(100)

    driver.now += after
    driver.window(0.0125)

    assert driver.law.reason == reason


def test_envoy_measures_again_when_it_is_stuck_at_the_least_limit():
    driver = measured(min_limit=10)

    reasons = []
    for _ in range(8):
        driver.window(1.0)
        reasons.append(driver.law.reason)

    assert reasons[-1] == "measuring"
