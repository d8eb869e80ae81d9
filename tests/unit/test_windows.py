"""The small data structures that policies and observers share."""

import math
import random

import pytest

from ninelives_grpc.windows.lru import LeastRecentlyUsed
from ninelives_grpc.windows.median import StreamingMedian
from ninelives_grpc.windows.outcomes import CountWindow, Tally, TimeWindow, wilson_lower_bound


@pytest.mark.parametrize("target", [0.002, 0.1, 30.0])
def test_a_streaming_median_finds_its_way_from_far_off(target):
    random.seed(5)
    median = StreamingMedian()
    median.add(1.0)

    for _ in range(3000):
        median.add(random.lognormvariate(math.log(target), 0.5))

    assert median.value == pytest.approx(target, rel=0.25)
    assert median.count == 3001


def test_a_streaming_median_starts_with_the_first_sample_and_does_not_overshoot():
    median = StreamingMedian()

    median.add(2.0)
    first = median.value
    median.add(2.01)
    median.add(2.005)

    assert first == 2.0
    assert median.value == 2.005


def test_a_streaming_median_leaves_zero_behind():
    median = StreamingMedian()
    median.add(0.0)

    median.add(0.5)
    median.add(0.5)

    assert median.value == 0.5


def test_the_longest_unused_key_is_forgotten():
    lru = LeastRecentlyUsed(2, str.upper)
    for key in ("a", "b", "a", "c"):
        lru.get(key)

    assert dict(lru.items()) == {"a": "A", "c": "C"}
    assert len(lru) == 2


def test_a_missing_value_is_made_once():
    made = []
    lru = LeastRecentlyUsed(2, lambda key: made.append(key) or [key])

    assert lru.get("a") is lru.get("a")
    assert made == ["a"]


def test_a_look_is_no_use():
    lru = LeastRecentlyUsed(2, str.upper)
    lru.get("a")
    lru.get("b")

    looks = lru.peek("a"), lru.peek("z")
    lru.get("c")

    assert looks == ("A", None)
    assert [key for key, _ in lru.items()] == ["b", "c"]


def test_keys_can_be_discarded():
    lru = LeastRecentlyUsed(2, str.upper)
    lru.get("a")

    lru.discard("a")
    lru.discard("never there")

    assert len(lru) == 0


def test_a_smaller_size_holds_at_once_and_a_larger_one_from_then_on():
    lru = LeastRecentlyUsed(3, str.upper)
    for key in "abc":
        lru.get(key)

    lru.resize(1)
    left = [key for key, _ in lru.items()]
    lru.resize(2)
    lru.get("d")

    assert left == ["c"]
    assert len(lru) == 2


def test_a_count_window_holds_the_last_calls_that_are_not_too_old():
    window = CountWindow(3, 10.0)
    for now, failed, slow in [
        (0, True, True),
        (1, False, True),
        (2, True, False),
        (3, False, False),
    ]:
        window.add(float(now), failed, slow)

    assert window.tally(3.0) == Tally(3, 1, 1)
    assert window.tally(11.5) == Tally(2, 1, 0)
    assert window.tally(99.0) == Tally(0, 0, 0)


def test_a_time_window_holds_all_calls_of_its_age_to_the_bucket():
    window = TimeWindow(1, 10.0)
    for tenth in range(200):
        window.add(tenth / 10, tenth % 2 == 0, tenth % 4 == 0)

    calls, failures, slow = window.tally(19.95)

    assert 90 <= calls <= 100
    assert failures == calls // 2
    assert slow == pytest.approx(calls / 4, abs=1)
    assert window.tally(99.0) == Tally(0, 0, 0)


def test_a_time_window_keeps_few_numbers_for_many_calls():
    window = TimeWindow(1, 10.0)

    for n in range(10_000):
        window.add(n / 100, failed=False, slow=False)

    assert len(window._buckets) <= 11


@pytest.mark.parametrize("kind", [CountWindow, TimeWindow])
def test_a_cleared_window_knows_nothing(kind):
    window = kind(10, 10.0)
    window.add(0.0, failed=True, slow=True)

    window.clear()

    assert window.tally(0.0) == Tally(0, 0, 0)


@pytest.mark.parametrize("kind", [CountWindow, TimeWindow])
def test_a_window_that_looks_less_far_back_forgets_at_once(kind):
    window = kind(10, 10.0)
    window.add(0.0, failed=True, slow=False)

    window.resize(10, 2.0)

    assert window.tally(5.0) == Tally(0, 0, 0)


@pytest.mark.parametrize(
    ("hits", "total", "z", "bound"),
    [
        (8, 8, 1.96, 0.6756),
        (3, 4, 1.96, 0.3006),
        (30, 40, 1.96, 0.5981),
        (0, 10, 1.96, 0.0),
        (5, 10, 0.0, 0.5),
        (0, 0, 1.96, 0.0),
    ],
)
def test_the_lower_bound_of_a_rate_seen_in_few_samples(hits, total, z, bound):
    assert wilson_lower_bound(hits, total, z) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize("total", range(13))
def test_of_nothing_the_bound_is_nothing_to_the_last_digit(total):
    assert wilson_lower_bound(0, total, 1.96) == 0.0
