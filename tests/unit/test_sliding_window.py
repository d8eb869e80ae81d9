import random
from collections import Counter

import pytest

from ninelives_grpc.windows.sketch import bucket_of
from ninelives_grpc.windows.sliding import HORIZONS, SlidingWindow

FINEST = 5.0
WIDTHS = {60.0: 5.0, 300.0: 15.0, 900.0: 60.0}


def ended(window, at, result, duration):
    durations = Counter() if duration is None else Counter([bucket_of(duration)])
    window.add(at, result, 1, durations)


def count(calls, since, now):
    return sum(1 for at in calls if since < at <= now)


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("seed", range(5))
def test_totals_equal_a_brute_force_count_to_the_slot(horizon, seed):
    rng = random.Random(seed)
    window, calls, now = SlidingWindow(), [], 1000.0

    for _ in range(4000):
        now += rng.expovariate(2.0)
        calls.append(now)
        ended(window, now, "success", 0.1)
        if rng.random() < 0.02:
            total = window.total(horizon, now).results.total()
            at_least = count(calls, now - horizon, now)
            at_most = count(calls, now - horizon - WIDTHS[horizon], now)
            assert at_least <= total <= at_most


@pytest.mark.parametrize("horizon", HORIZONS)
def test_a_slot_leaves_when_all_of_it_is_too_old(horizon):
    window = SlidingWindow()
    ended(window, 1000.0, "success", 0.1)

    inside = window.total(horizon, 1000.0 + horizon).results.total()
    outside = window.total(horizon, 1000.0 + horizon + WIDTHS[horizon]).results.total()

    assert (inside, outside) == (1, 0)


def test_results_and_durations_are_kept_apart():
    window = SlidingWindow()

    ended(window, 0.0, "success", 0.1)
    ended(window, 0.0, "failure", 0.2)
    ended(window, 0.0, "refused", None)

    total = window.total(60.0, 0.0)
    assert dict(total.results) == {"success": 1, "failure": 1, "refused": 1}
    assert dict(total.durations) == {bucket_of(0.1): 1, bucket_of(0.2): 1}


def test_nothing_is_lost_or_counted_twice_while_it_grows_old():
    window = SlidingWindow()
    for second in range(600):
        ended(window, float(second), "success", 0.1)

    totals = [window.total(900.0, float(now)).results.total() for now in range(600, 840)]

    assert totals == [600] * 240


def test_after_a_long_silence_nothing_is_left():
    window = SlidingWindow()
    for second in range(1000):
        ended(window, float(second), "success", 0.1)

    assert window.total(900.0, 1e6).results.total() == 0
    assert all(not slots for slots in window._levels)


def test_a_call_that_comes_in_a_little_late_is_counted():
    window = SlidingWindow()
    ended(window, 100.0, "success", 0.1)

    ended(window, 99.0, "success", 0.1)

    assert window.total(60.0, 100.0).results.total() == 2


def test_memory_is_bounded_whatever_the_traffic():
    window = SlidingWindow()
    for tenth in range(50_000):
        ended(window, tenth / 10, "success", 0.1)

    assert [len(slots) for slots in window._levels] <= [13, 18, 13]
