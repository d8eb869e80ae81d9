"""Twenty clients that retry while their backend is gone, in virtual time: what a budget is for."""

import pytest

from ninelives_grpc import Registry, Retry, RetryBudget, Stack, Timeout
from ninelives_grpc.simulation import Made, Server, Traffic
from tests.unit.simulated import Phase, run, source

USUAL = Phase(seconds=3.0, load=0.7)
OUTAGE = 5.0
GONE = [{"dead": True}, {"stalled": True}]
SERVERS = [None, source("admission_queue", admission_queue={"width": 16}),
           source("concurrency_limit")]  # fmt: skip


def storm(budget, gone, stack=None):
    """Let clients call at usual load, and their backend be gone for a while."""

    def client(clock):
        retry = Retry(4, initial_backoff=0.05, idempotent=True, budget=budget())
        return Stack("client", retry + Timeout(0.25), registry=Registry(), clock=clock)

    return run(
        USUAL,
        Phase(seconds=OUTAGE, load=0.7, **gone),
        USUAL,
        stack=stack,
        client=Made(client),
        server=Server(skips_expired=True),
        traffic=Traffic(deadline=0.5, clients=20),
    )


@pytest.mark.parametrize("gone", GONE, ids=["dead", "hung"])
@pytest.mark.parametrize("stack", SERVERS, ids=["bare", "admission queue", "concurrency limit"])
def test_with_a_budget_there_is_hardly_an_attempt_more_and_all_is_well_within_a_second(gone, stack):
    result = storm(RetryBudget, gone, stack)

    assert result.amplification(3.0, 3.0 + OUTAGE) <= 1.10
    assert result.goodput(4.0 + OUTAGE, 6.0 + OUTAGE) >= 0.98


def test_without_a_budget_each_call_is_tried_as_often_as_may_be():
    result = storm(lambda: RetryBudget(cost=0.0), {"dead": True})

    assert result.amplification(3.0, 3.0 + OUTAGE) >= 3.5
