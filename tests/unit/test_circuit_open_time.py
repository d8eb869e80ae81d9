"""For how long a circuit stays open."""

import pytest

from ninelives_grpc import Kind
from tests.unit.breaker import Breaker


def test_open_times_double_up_to_the_longest():
    breaker = Breaker(half_open_permits=1)
    breaker.open(0.0)
    now = 0.0

    for _ in range(6):
        now += 10.0
        breaker.fail(breaker.probe(now), now)

    assert breaker.durations == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_open_times_go_on_doubling_when_it_opens_again_soon_after_closing():
    breaker = Breaker()
    breaker.open(0.0)
    breaker.close(10.0)

    breaker.open(69.9)

    assert breaker.durations == [0.5, 1.0]


def test_a_healthy_minute_forgives_all():
    breaker = Breaker()
    breaker.open(0.0)
    breaker.close(10.0)

    breaker.open(70.0)

    assert breaker.durations == [0.5, 0.5]


def test_a_minute_of_outage_is_no_healthy_minute():
    breaker = Breaker(half_open_permits=1)
    breaker.open(0.0)
    breaker.succeed(breaker.probe(1.0), 1.0)
    breaker.open(2.0)

    for now in (100.0, 200.0, 300.0):
        breaker.fail(breaker.probe(now), now)

    assert breaker.durations == [0.5, 1.0, 2.0, 4.0, 5.0]


def test_a_thousand_openings_do_not_overflow():
    breaker = Breaker(half_open_permits=1)
    breaker.open(0.0)

    for n in range(1, 1100):
        breaker.fail(breaker.probe(n * 10.0), n * 10.0)

    assert breaker.durations[-1] == 5.0


def test_open_times_vary_by_a_tenth_either_way():
    durations = []
    for _ in range(300):
        breaker = Breaker(jitter=0.1)
        breaker.open(0.0)
        durations += breaker.durations

    assert 0.45 <= min(durations) < 0.46
    assert 0.54 < max(durations) <= 0.55


def test_a_longer_pushback_of_the_failing_reply_wins():
    breaker = Breaker(classify=lambda _: Kind.FAILURE)

    for _ in range(8):
        breaker.fail(breaker.probe(0.0), 0.0, pushback=2000)

    assert breaker.durations == [2.0]


@pytest.mark.parametrize("pushback", [100, -1, "soon"])
def test_a_shorter_pushback_changes_nothing(pushback):
    breaker = Breaker(classify=lambda _: Kind.FAILURE)

    for _ in range(8):
        breaker.fail(breaker.probe(0.0), 0.0, pushback=pushback)

    assert breaker.durations == [0.5]
