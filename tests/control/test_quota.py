import math

import pytest

from ninelives_control.authorization.quota import Quota

KEY = ("agent", "few")


@pytest.fixture
def times():
    return {"now": 0.0}


@pytest.fixture
def quota(times):
    return Quota(lambda: times["now"], capacity=5)


def test_all_that_is_wanted_is_counted_or_nothing(quota):
    assert quota.take({KEY: (3, 2)})
    assert not quota.take({("agent", "other"): (9, 1), KEY: (3, 2)})

    assert quota.wait(("agent", "other"), 1, 1) == 0
    assert quota.wait(KEY, 3, 1) == 0


def test_it_says_how_long_to_wait(quota, times):
    quota.take({KEY: (3, 1)})
    times["now"] = 600.0
    quota.take({KEY: (3, 2)})

    waits = [quota.wait(KEY, 3, changes) for changes in (1, 2, 3, 4)]

    assert waits == [3000.0, 3600.0, 3600.0, math.inf]


def test_memory_is_bounded_and_who_comes_late_waits(quota, times):
    for number in range(5):
        assert quota.take({(f"agent-{number}", "few"): (1, 1)})
        times["now"] += 1.0

    assert not quota.take({("late", "few"): (1, 1)})
    assert quota.wait(("late", "few"), 1, 1) == 3595.0
    times["now"] = 3600.0
    assert quota.take({("late", "few"): (1, 1)})
    assert len(quota._order) == sum(map(len, quota._made.values())) == 5
    times["now"] = 9999.0
    assert quota.wait(KEY, 1, 1) == 0
    assert (len(quota._order), quota._made) == (0, {})
