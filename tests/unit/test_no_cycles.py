"""Errors and their frames are freed as soon as the caller is done with them, without the gc."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    RateLimit,
    Refused,
    Respond,
    Retry,
    RetryBudget,
    Stack,
    Timeout,
)
from tests.unit.backend import StatusError


class Local:
    """Something that a frame of the function holds."""


@pytest.fixture(autouse=True)
def no_collector():
    gc.disable()
    yield
    gc.enable()


class Failing:
    """Fails so many times, and keeps an eye on what its errors and frames hold."""

    def __init__(self, failures):
        self._failures = failures
        self._references = []

    def __call__(self):
        local = Local()
        self._references.append(weakref.ref(local))
        if len(self._references) <= self._failures:
            raise watched(self._references)

    @property
    def freed(self):
        return all(reference() is None for reference in self._references)


def watched(references):
    error = StatusError()
    references[-1] = weakref.ref(error)
    return error


def call_sync(stack, function):
    """Call, and let go of the error."""
    with contextlib.suppress(StatusError):
        stack.call(function)
    for thread in threading.enumerate():
        if thread.name == "ninelives-race":
            thread.join(10)
    return function.freed


def call_aio(stack, function):
    async def work():
        function()

    async def main():
        with contextlib.suppress(StatusError):
            await stack.acall(work)
        return function.freed

    return asyncio.run(main())


FREE = RetryBudget(cost=0)
STEADY = {"initial_backoff": 1.0, "jitter": "none", "budget": FREE}


@pytest.mark.parametrize("failures", [0, 1, 2, 99])
@pytest.mark.parametrize(
    "expression",
    [
        Timeout(5.0) + CircuitBreaker() + Bulkhead(1),
        Retry(3, **STEADY),
        Retry(3, **STEADY) + Timeout(5.0) + Retry(2, **STEADY),
        Retry(3, **STEADY) + RateLimit(0.001),
        Timeout(5.0) | Timeout(6.0),
        Timeout(5.0) | Timeout(6.0) | Respond("local"),
        (Retry(2, **STEADY) | Timeout(5.0)) | (Timeout(6.0) | Timeout(7.0)),
        Timeout(5.0) & Timeout(6.0),
        Retry(3, **STEADY) + (Timeout(5.0) & Timeout(6.0)),
        (Timeout(5.0) & Timeout(6.0)) | Timeout(7.0),
        Hedge(1.0, max_hedges=2, idempotent=True, budget=FREE) + Timeout(5.0),
        Retry(2, **STEADY) + Hedge(0.0, idempotent=True),
        Hedge(idempotent=True) + CircuitBreaker() | Timeout(7.0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("call", [call_sync, call_aio])
def test_an_error_is_freed_by_counting_references_alone(
    registry, clock, call, expression, failures
):
    stack = Stack("s", expression, registry=registry, clock=clock)

    assert call(stack, Failing(failures))


def test_a_refusal_holds_on_to_nothing(registry, clock):
    stack = Stack("s", RateLimit(0.001), registry=registry, clock=clock)
    stack.call(lambda: None)
    references = []

    def refuse():
        local = Local()
        references.append(weakref.ref(local))
        stack.call(lambda: local)

    with contextlib.suppress(Refused):
        refuse()

    assert references[0]() is None


def test_a_cancelled_task_holds_on_to_nothing(registry, clock):
    stack = Stack("s", Timeout(5.0) + (Timeout(6.0) & Timeout(7.0)), registry=registry, clock=clock)
    references = []

    async def function():
        local = Local()
        references.append(weakref.ref(local))
        await asyncio.Event().wait()

    async def main():
        task = asyncio.ensure_future(stack.acall(function))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        del task
        for _ in range(5):
            await asyncio.sleep(0)
        return [reference() is None for reference in references]

    assert asyncio.run(main()) == [True, True]
