import random

import pytest

from ninelives_grpc.windows.sketch import bucket_of
from ninelives_grpc.windows.sliding import (
    HORIZONS,
    CallSlot,
    EventSlot,
    SlidingWindow,
    beginning,
    check_horizon,
)

FINEST = 5.0
WIDTHS = {60.0: 5.0, 300.0: 15.0, 900.0: 60.0}


def ended(window, at, result, duration):
    slot = window.slot(at)
    slot.add(result, 1, 2, 1)
    if duration is not None:
        slot.durations.add(duration)


def count(calls, since, now):
    return sum(1 for at in calls if since < at <= now)


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("seed", range(5))
def test_totals_equal_a_brute_force_count_to_the_slot(horizon, seed):
    rng = random.Random(seed)
    window, calls, now = SlidingWindow(CallSlot), [], 1000.0

    for _ in range(4000):
        now += rng.expovariate(2.0)
        calls.append(now)
        ended(window, now, "success", 0.1)
        if rng.random() < 0.02:
            total = window.total(horizon, now).calls
            at_least = count(calls, now - horizon, now)
            at_most = count(calls, now - horizon - WIDTHS[horizon], now)
            assert at_least <= total <= at_most


@pytest.mark.parametrize("horizon", HORIZONS)
def test_a_slot_leaves_when_all_of_it_is_too_old(horizon):
    window = SlidingWindow(CallSlot)
    ended(window, 1000.0, "success", 0.1)

    inside = window.total(horizon, 1000.0 + horizon).calls
    outside = window.total(horizon, 1000.0 + horizon + WIDTHS[horizon]).calls

    assert (inside, outside) == (1, 0)


def test_results_and_durations_are_kept_apart():
    window = SlidingWindow(CallSlot)

    ended(window, 0.0, "success", 0.1)
    ended(window, 0.0, "failure", 0.2)
    ended(window, 0.0, "refused", None)

    total = window.total(60.0, 0.0)
    assert [total.of(word) for word in ("success", "failure", "refused", "ignored")] == [1, 1, 1, 0]
    assert (total.attempts, total.answered) == (6, 3)
    assert dict(total.durations.buckets()) == {bucket_of(0.1): 1, bucket_of(0.2): 1}
    assert total.durations.sum == pytest.approx(0.3)


def test_nothing_is_lost_or_counted_twice_while_it_grows_old():
    window = SlidingWindow(CallSlot)
    for second in range(600):
        ended(window, float(second), "success", 0.1)

    totals = [window.total(900.0, float(now)).calls for now in range(600, 840)]

    assert totals == [600] * 240


def test_after_a_long_silence_nothing_is_left():
    window = SlidingWindow(CallSlot)
    for second in range(1000):
        ended(window, float(second), "success", 0.1)

    assert window.total(900.0, 1e6).calls == 0
    assert all(not slots for slots in window._levels)


def test_a_call_that_comes_in_a_little_late_is_counted():
    window = SlidingWindow(CallSlot)
    ended(window, 100.0, "success", 0.1)

    ended(window, 99.0, "success", 0.1)

    assert window.total(60.0, 100.0).calls == 2


def test_memory_is_bounded_whatever_the_traffic():
    window = SlidingWindow(CallSlot)
    for tenth in range(50_000):
        ended(window, tenth / 10, "success", 0.1)

    assert [len(slots) for slots in window._levels] <= [13, 18, 13]


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("now", [2000.0, 2001.0, 2004.9, 2033.3])
def test_the_time_that_is_counted_is_that_of_the_slots_there_are(horizon, now):
    window = SlidingWindow(CallSlot)
    for tenth in range(int(now * 10) + 1):
        ended(window, tenth / 10, "success", None)

    counted = window.total(horizon, now).calls
    seconds = now - beginning(horizon, now)

    assert counted / seconds == pytest.approx(10.0, rel=0.01)
    assert horizon <= seconds < horizon + WIDTHS[horizon]


def test_other_windows_are_not_kept():
    with pytest.raises(ValueError, match="a window of 61 s is not kept; ask for one of 60, 300"):
        check_horizon(61.0)


def test_events_slide_like_calls():
    window = SlidingWindow(EventSlot)
    for at in (0.0, 100.0):
        window.slot(at).counts["CircuitRefused", "open"] += 1

    assert window.total(60.0, 110.0).counts == {("CircuitRefused", "open"): 1}
    assert window.total(300.0, 110.0).counts == {("CircuitRefused", "open"): 2}
