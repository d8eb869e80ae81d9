import itertools
import random

import pytest

from ninelives_grpc import Retry
from ninelives_grpc.outcome import failed
from ninelives_grpc.policies.backoff import Backoff, Jitter, base_wait, spread
from ninelives_grpc.policies.retry import Attempts, _wait
from tests.unit.backend import StatusError


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff.CONSTANT, [0.5, 0.5, 0.5]),
        (Backoff.LINEAR, [0.5, 1.0, 1.5]),
        (Backoff.EXPONENTIAL, [0.5, 1.5, 4.5]),
    ],
)
def test_waits_grow_by_kind(backoff, waits):
    assert [base_wait(backoff, step, 0.5, 3.0) for step in range(3)] == waits


def test_a_thousand_attempts_do_not_overflow():
    assert base_wait(Backoff.EXPONENTIAL, 1000, 3600.0, 100.0) > 1e100


@pytest.mark.parametrize(
    ("jitter", "low", "high"),
    [
        (Jitter.FULL, 0.0, 2.0),
        (Jitter.EQUAL, 1.0, 2.0),
        (Jitter.A6, 1.6, 2.4),
        (Jitter.DECORRELATED, 0.5, 4.5),
        (Jitter.NONE, 2.0, 2.0),
    ],
)
def test_jitter_fills_its_range_and_no_more(jitter, low, high):
    random.seed(1)
    waits = [spread(jitter, 2.0, initial=0.5, previous=1.5, cap=10.0) for _ in range(2000)]

    assert low <= min(waits) <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= max(waits) <= high


@pytest.mark.parametrize("jitter", list(Jitter))
def test_no_jitter_goes_beyond_the_cap(jitter):
    waits = [spread(jitter, 9.0, initial=7.0, previous=8.0, cap=5.0) for _ in range(200)]

    assert max(waits) <= 5.0


def test_decorrelated_waits_grow_from_the_wait_before():
    policy = Retry(jitter="decorrelated", initial_backoff=0.1, max_backoff=1000.0)
    attempts, waits = Attempts(policy), [0.1]

    waits += [_wait(attempts, policy, failed(StatusError(), 0.0)) for _ in range(50)]

    for before, wait in itertools.pairwise(waits):
        assert 0.1 <= wait <= max(0.1, 3 * before)


def test_decorrelated_waits_start_again_after_a_pushback():
    policy = Retry(jitter="decorrelated", initial_backoff=0.1, max_backoff=1000.0)
    attempts = Attempts(policy)
    attempts.previous = 900.0

    _wait(attempts, policy, failed(StatusError(pushback=50), 0.0))

    assert _wait(attempts, policy, failed(StatusError(), 0.0)) <= 0.3
