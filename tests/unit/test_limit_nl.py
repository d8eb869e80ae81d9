"""The default law, to the number: 80 calls in a window of 0.1 s that take 20 ms are N0 = 16."""

import pytest

from ninelives_grpc import ConcurrencyLimit
from ninelives_grpc.limits.baseline import MAX_METHODS
from ninelives_grpc.limits.nl import Nl
from ninelives_grpc.limits.probe import Member

TARGET = 1.5 * 16 + 2 * 4 + 0.5


class Driver:
    """A law, and calls that come and end as told."""

    def __init__(self, limit=20, **settings):
        self.policy = ConcurrencyLimit(**settings)
        self.law = Nl(lambda: self.policy, limit)
        self.now = 0.0
        self.one(0.02, "m", None, 1)

    def one(self, latency, method, remaining, peak):
        permit = self.law.on_admit(method, peak, remaining, self.now)
        self.law.on_settle(permit, latency, 0, self.now)

    def window(self, latency=0.02, *, calls=80, **more):
        """Have calls of one method end; returns the limit then."""
        return self.mixed([("m", latency)] * calls, **more)

    def mixed(self, answers, *, seconds=0.1, peak=1, refused=0, remaining=None):
        """Have calls end, evenly in that time; returns the limit then."""
        start = self.now
        for _ in range(refused):
            self.law.on_refuse(start)
        for number, (method, latency) in enumerate(answers, 1):
            self.now = start + seconds * number / len(answers)
            self.one(latency, method, remaining, peak)
        return self.law.limit

    def overload_until_a_probe(self, **settings):
        """Have calls refused until the law measures; returns after how long."""
        self.window()
        start = self.now
        while self.law.reason != "probe":
            self.window(refused=1, **settings)
        return self.now - start

    def cohort(self, latency, calls=50):
        """Have the calls of a probe come and end."""
        permits = [self.law.on_admit("m", 1, None, self.now) for _ in range(calls)]
        for permit in permits:
            self.law.on_settle(permit, latency, 0, self.now)


def test_a_window_is_over_after_its_time_and_its_calls():
    driver = Driver()

    driver.window(calls=19, seconds=0.15)
    too_few = driver.law.latency
    driver.window(calls=1, seconds=0.01)
    enough = driver.law.latency
    driver.window(0.03, calls=50, seconds=0.05)

    assert (too_few, enough) == (0.0, pytest.approx(0.02))
    assert driver.law.latency == pytest.approx(0.02)


def test_the_first_window_is_the_base():
    driver = Driver()

    driver.window(0.07)

    assert driver.law.base == pytest.approx(0.07)
    assert driver.law.excess == pytest.approx(1.0)


def test_while_nothing_waits_the_limit_rises_to_a_multiple_of_what_ran():
    driver = Driver()

    limits = [driver.window(peak=10) for _ in range(5)]

    assert limits == pytest.approx([26.0, 33.5, 42.875, 44.0, 44.0])
    assert driver.law.reason == "relaxed"


def test_while_nothing_waits_the_limit_is_no_less_than_the_target_and_a_fifth():
    driver = Driver()

    for _ in range(20):
        driver.window(peak=1)

    assert driver.law.limit == pytest.approx(1.2 * TARGET)


def test_the_limit_falls_slowly_once_what_ran_is_forgotten():
    driver = Driver()
    for _ in range(10):
        driver.window(peak=30)

    limits = [driver.window(peak=10) for _ in range(105)]

    assert limits[90] == pytest.approx(124.0)
    assert limits[104] < 124.0
    assert limits[104] / limits[103] == pytest.approx(0.98)


def test_the_base_follows_slowly_while_nothing_waits():
    driver = Driver()
    driver.window()

    driver.window(0.026)
    driver.window(0.0201)

    # By 0.05 x 0.3 x 80 / 100 first.
    first = 0.02 * (1 + 0.05 * 0.3 * 0.8)
    assert driver.law.base == pytest.approx(first)
    lane = driver.law._baseline.lanes["m"]
    assert lane.base == pytest.approx(first * (1 + 0.05 * (0.0201 / first - 1) * 0.8))


@pytest.mark.parametrize(("latency", "reason"), [(0.0486, "relaxed"), (0.0489, "overload")])
def test_calls_that_take_longer_than_a_short_queue_explains_are_overload(latency, reason):
    # 1.2 x T(16) / 16 = 2.4375, and all take the same, so that there is no error.
    driver = Driver()
    driver.window()

    driver.window(latency)

    assert driver.law.reason == reason


def test_a_refusal_is_overload_and_the_limit_rises_to_the_target_at_once():
    driver = Driver()
    driver.window()

    driver.window(refused=1)

    assert driver.law.reason == "overload"
    assert driver.law.limit == pytest.approx(TARGET)


def test_the_limit_is_cut_by_half_of_the_way_and_a_quarter_at_most():
    driver = Driver(100)
    driver.window()  # falls by 2 % as little runs

    limits = [driver.window(refused=1) for _ in range(4)]

    expected, limit = [], 98.0
    for _ in range(4):
        limit += 0.5 * (max(limit / 2, TARGET) - limit)
        expected.append(limit)
    assert limits == pytest.approx(expected)


@pytest.mark.parametrize(
    ("remaining", "limit"),
    [(1.0, TARGET), (0.05, 800 * 0.5 * 0.05 + 1), (0.01, 1.1 * 16 + 1), (None, TARGET)],
)
def test_calls_get_no_more_than_half_their_deadline_but_an_empty_queue_is_kept(remaining, limit):
    driver = Driver()
    driver.window(remaining=remaining)

    # They wait, if little: what does not wait at all may grow faster.
    for _ in range(9):
        driver.window(0.0265, refused=1, remaining=remaining)

    # Half of the way a window: not quite there yet.
    assert driver.law.limit == pytest.approx(limit, rel=2e-3)


def test_one_second_after_refusals_begin_a_probe_measures_with_fewer_calls():
    driver = Driver()

    after = driver.overload_until_a_probe()

    # Entered at the end of the first window.
    assert after == pytest.approx(1.1)
    assert driver.law.limit == pytest.approx(0.8 * 800 * 0.02)


def test_a_probe_awaits_its_first_calls_and_nobody_else():
    driver = Driver()
    driver.overload_until_a_probe()

    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(60)]
    members = [isinstance(permit, Member) for permit in permits]
    for permit in permits[1:]:
        driver.law.on_settle(permit, 0.01, 0, driver.now)
    before = driver.law.reason
    driver.law.on_settle(permits[0], 0.01, 0, driver.now)

    assert members == [True] * 50 + [False] * 10
    assert (before, driver.law.reason) == ("probe", "probed")
    assert driver.law.base == pytest.approx(0.01)
    assert driver.law.limit == pytest.approx(1.5 * 8 + 2 * 8**0.5 + 0.5)


def test_a_cohort_is_larger_where_calls_differ():
    # Every tenth takes eleven times as long as the others: the squared variation is 2.25.
    answers = [("m", 0.01)] * 72 + [("m", 0.11)] * 8
    driver = Driver()
    driver.mixed(answers)
    while driver.law.reason != "probe":
        driver.mixed(answers, refused=1)

    assert driver.law._probe.size == 225


@pytest.mark.parametrize(
    ("second", "base"), [(0.009, 0.0095), (0.006, 0.006), (0.013, 0.0115), (0.015, 0.015)]
)
def test_later_probes_move_the_base_half_the_way_unless_it_is_plainly_wrong(second, base):
    driver = Driver()
    driver.overload_until_a_probe()
    driver.cohort(0.01)
    while driver.law.reason != "probe":
        driver.window(0.01, refused=1)

    driver.cohort(second)

    assert driver.law.base == pytest.approx(base)


@pytest.mark.parametrize(("found", "wait"), [(0.02, 10.0), (0.0235, 1.0), (0.016, 1.0)])
def test_the_next_probe_comes_in_ten_seconds_or_soon_when_the_base_has_moved(found, wait):
    driver = Driver()
    driver.overload_until_a_probe()
    driver.cohort(found)
    start = driver.now

    while driver.law.reason != "probe":
        driver.window(found, refused=1)

    assert driver.now - start == pytest.approx(wait, abs=0.101)


def test_four_slow_windows_in_a_row_make_a_probe_due():
    driver = Driver()
    driver.window()

    reasons = [driver.window(0.06) and driver.law.reason for _ in range(4)]

    assert reasons == ["overload"] * 3 + ["probe"]


def test_a_deep_cut_that_latency_does_not_follow_makes_a_probe_due():
    driver = Driver(100)
    driver.window()

    reasons = [driver.window(0.06, peak=peak) and driver.law.reason for peak in (100, 100, 50, 50)]

    assert reasons == ["overload", "overload", "overload", "probe"]


def test_a_deep_cut_that_latency_follows_makes_none_due():
    driver = Driver(100)
    driver.window()

    reasons = [
        driver.window(latency, peak=peak) and driver.law.reason
        for peak, latency in ((100, 0.125), (100, 0.125), (50, 0.125), (50, 0.0625))
    ]

    assert reasons == ["overload"] * 4


def test_a_probe_for_such_a_cut_leaves_the_backend_more_to_do():
    driver, usual = Driver(100), Driver(100)
    driver.window()
    usual.overload_until_a_probe()

    while driver.law.reason != "probe":
        driver.window(0.08, peak=int(driver.law.limit))

    # Twice as many, as calls take four times as long.
    assert usual.law.limit == pytest.approx(0.8 * 16)
    assert driver.law.limit == pytest.approx(0.8 * 16 * 2)


def test_a_limit_that_was_too_low_is_left_for_what_the_backend_could_do_before():
    driver = Driver(100)
    driver.window()
    driver.window(0.08, peak=100)
    while driver.law.reason != "probe":
        driver.window(0.08, calls=20, peak=int(driver.law.limit))
    driver.cohort(0.08)

    # N0 is 80 calls in 0.1 s that take 80 ms, and not the 20 calls of the last windows.
    assert driver.law.limit > 0.08 * 800


def test_calls_that_would_be_late_are_not_waited_for_in_steps():
    driver = Driver(1000)
    driver.window()

    limit = driver.window(0.3, peak=240, remaining=0.25)

    # Half the deadline at 800 calls a second, and half of the way from there.
    assert limit <= 0.125 * 800


@pytest.mark.parametrize(("latency", "reason"), [(0.041, "probed"), (0.039, "probe")])
def test_ten_calls_are_enough_when_they_take_twice_as_long_as_they_should(latency, reason):
    driver = Driver()
    driver.overload_until_a_probe()
    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(50)]

    # A quick one that is not of the first ten does not count.
    for permit in [permits[20], *permits[:9]]:
        driver.law.on_settle(permit, latency, 0, driver.now)
    before = driver.law.reason
    driver.law.on_settle(permits[9], latency, 0, driver.now)

    assert (before, driver.law.reason) == ("probe", reason)
    if reason == "probed":
        assert driver.law.base == pytest.approx(latency)


def test_overload_that_begins_anew_does_not_repeat_a_probe():
    driver = Driver()
    driver.overload_until_a_probe()
    driver.cohort(0.02)
    start = driver.now
    driver.window()

    while driver.law.reason != "probe":
        driver.window(refused=1)

    assert driver.now - start == pytest.approx(10.0, abs=0.101)


def test_a_probe_takes_what_it_has_when_calls_do_not_return():
    driver = Driver()
    driver.overload_until_a_probe()
    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(50)]
    for permit in permits[:11]:
        driver.law.on_settle(permit, 0.01, 39, driver.now)

    driver.law.on_refuse(driver.now + 3.39)
    early = driver.law.reason
    driver.law.on_refuse(driver.now + 3.41)

    assert (early, driver.law.reason) == ("probe", "probed")
    assert driver.law.base == pytest.approx(0.01)


def test_a_probe_with_too_few_answers_is_given_up():
    driver = Driver()
    driver.overload_until_a_probe()
    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(50)]
    for permit in permits[:10]:
        driver.law.on_settle(permit, 0.01, 40, driver.now)

    driver.now += 3.41
    late = driver.law.on_admit("m", 41, None, driver.now)

    assert driver.law.reason == "abandoned"
    assert driver.law.base == pytest.approx(0.02)
    assert driver.law.limit == pytest.approx(TARGET)
    assert not isinstance(late, Member)


def test_a_call_of_a_probe_that_is_cancelled_is_not_awaited():
    driver = Driver()
    driver.overload_until_a_probe()
    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(50)]
    driver.law.on_ignore(permits[0], 49, driver.now)
    driver.law.on_drop(permits[1], 48, driver.now)

    for permit in permits[2:]:
        driver.law.on_settle(permit, 0.01, 0, driver.now)

    assert driver.law.reason == "probed"
    assert driver.law.base == pytest.approx(0.01)


def test_a_call_of_a_probe_that_is_over_counts_nowhere():
    driver = Driver()
    driver.overload_until_a_probe()
    permits = [driver.law.on_admit("m", 1, None, driver.now) for _ in range(50)]
    for permit in permits[:20]:
        driver.law.on_settle(permit, 0.02, 30, driver.now)
    driver.now += 3.5
    driver.law.on_refuse(driver.now)

    driver.law.on_settle(permits[20], 99.0, 29, driver.now)
    driver.window()

    assert driver.law.latency == pytest.approx(0.02)


def test_a_window_in_which_the_backend_stood_still_is_not_judged():
    driver = Driver()
    driver.window()
    driver.window(0.02, calls=79, seconds=0.099)

    # More than 10 x 0.02 + 2 x 0.1 later.
    driver.now += 0.41
    driver.one(0.43, "m", None, 1)
    driver.window(0.03)

    assert driver.law.latency == pytest.approx(0.03)


def test_a_change_of_mix_is_no_overload():
    driver = Driver()
    driver.mixed([("quick", 0.01)] * 70 + [("slow", 0.2)] * 10)

    driver.mixed([("quick", 0.01)] * 20 + [("slow", 0.2)] * 60)

    assert driver.law.reason == "relaxed"
    assert driver.law.excess == pytest.approx(1.0)
    assert driver.law.base == pytest.approx((20 * 0.01 + 60 * 0.2) / 80)


def test_a_method_that_is_new_under_overload_is_thought_to_be_held_up_like_the_others():
    driver = Driver()
    driver.mixed([("known", 0.01)] * 80)

    driver.mixed([("known", 0.03)] * 40 + [("new", 0.6)] * 40)

    assert driver.law._baseline.lanes["new"].base == pytest.approx(0.2)


def test_methods_are_bounded():
    driver = Driver()

    permits = [driver.law.on_admit(f"m{number}", 1, None, 0.0) for number in range(1000)]

    assert len(driver.law._baseline.lanes) <= MAX_METHODS + 1
    assert permits[-1] is permits[-2]


def test_a_probe_may_go_to_half_of_the_least_limit():
    driver = Driver(min_limit=40)
    driver.overload_until_a_probe()

    assert driver.law.limit == 20.0


def test_a_probe_of_a_backend_that_does_one_at_a_time_lets_one_in():
    driver = Driver()
    driver.window(0.01, calls=20, seconds=0.2)
    while driver.law.reason != "probe":
        driver.window(0.01, calls=20, seconds=0.2, refused=1)

    assert driver.law.limit == 1.0


def test_what_calls_take_while_some_wait_does_not_become_the_base():
    driver = Driver()
    driver.window(peak=100)

    for _ in range(100):
        driver.window(0.03, peak=100)

    assert driver.law.reason == "relaxed"
    assert driver.law.base == pytest.approx(0.02)


@pytest.mark.parametrize(("remaining", "reason"), [(0.07, "relaxed"), (0.05, "overload")])
def test_calls_that_wait_and_take_most_of_their_time_are_too_many(remaining, reason):
    driver = Driver()
    driver.window(remaining=remaining)

    driver.window(0.03, remaining=remaining)

    assert driver.law.reason == reason


def test_a_window_takes_as_long_as_a_call_and_one_very_long_call_holds_it_up_for_a_while_only():
    driver = Driver()
    driver.window(400.0, calls=80)

    driver.window(0.02, calls=40, seconds=4.0)
    before = driver.law.latency
    driver.window(0.02, calls=20, seconds=1.5)
    driver.window(0.02, calls=20, seconds=0.1)

    assert before == pytest.approx(400.0)
    assert driver.law.latency == pytest.approx(0.02)
