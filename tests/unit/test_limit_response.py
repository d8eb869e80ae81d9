"""Whether latency follows a cut: calls in flight, and how long the calls took that began then."""

import pytest

from ninelives_grpc.limits.response import Response

WINDOW = 0.1


def response(*windows):
    """Return what has seen windows of so many calls in flight, and so many times the base."""
    seen = Response()
    for number, (peak, excess) in enumerate(windows):
        seen.note(number * WINDOW, (number + 1) * WINDOW, peak, 0.01 * excess, excess)
    return seen


@pytest.mark.parametrize(
    ("windows", "insensitive"),
    [
        ([(100, 3.0), (50, 3.0)], True),
        ([(100, 3.0), (50, 2.3)], True),
        ([(100, 3.0), (50, 2.2)], False),
        ([(100, 3.0), (50, 1.5)], False),
        ([(100, 3.0), (85, 3.0)], False),
        ([(50, 3.0), (100, 3.0)], False),
    ],
)
def test_a_deep_cut_that_latency_does_not_follow_tells_that_nothing_waits(windows, insensitive):
    assert response(*windows).insensitive(0.05) is insensitive


def test_latency_of_calls_that_began_before_the_cut_tells_nothing():
    # They took 0.1 s: they began when 100 were in flight.
    assert not response((100, 10.0), (100, 10.0), (50, 10.0)).insensitive(0.05)
    assert response((100, 10.0), (100, 10.0), (50, 10.0), (50, 10.0)).insensitive(0.05)


def test_a_cut_that_the_error_of_the_latency_could_hide_tells_nothing():
    windows = (100, 3.0), (50, 3.0)

    assert response(*windows).insensitive(0.16)
    assert not response(*windows).insensitive(0.17)


def test_what_was_forgotten_tells_nothing():
    seen = response((100, 3.0))
    seen.clear()
    seen.note(1.0, 1.1, 50, 0.06, 3.0)

    assert not seen.insensitive(0.01)
