import asyncio
import logging

import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    Method,
    RateLimit,
    Refused,
    Retry,
    Stack,
    Timeout,
    UnknownNameError,
)
from ninelives_grpc.call import Call
from ninelives_grpc.errors import AioRefused
from ninelives_grpc.sinks import Sink
from ninelives_grpc.testing import MemorySink
from tests.unit.alone import names
from tests.unit.backend import Backend, StatusError


@pytest.fixture
def stack(registry, clock):
    def build(expression, **settings):
        return Stack("s", expression, registry=registry, clock=clock, **settings)

    return build


def test_arguments_reach_the_function_and_its_result_comes_back(stack):
    def function(a, *, b):
        return a, b

    async def afunction(a, *, b):
        return a, b

    built = stack(Timeout(1.0))

    assert built.call(function, 1, b=2) == (1, 2)
    assert asyncio.run(built.acall(afunction, 1, b=2)) == (1, 2)


def test_both_kinds_of_function_can_be_decorated(stack):
    @stack(RateLimit(0.001))
    def function(a):
        """Docs."""
        return a

    @stack(RateLimit(0.001))
    async def afunction(a):
        return a

    assert (function.__name__, function.__doc__) == ("function", "Docs.")
    assert function(1) == 1
    with pytest.raises(Refused):
        function(1)
    assert asyncio.run(afunction(2)) == 2
    with pytest.raises(Refused):
        asyncio.run(afunction(2))


def test_methods_can_be_decorated(stack):
    class Client:
        base = 40

        @stack(Timeout(1.0))
        def get(self, n):
            return self.base + n

    assert Client().get(2) == 42


def test_a_refusal_is_raised_with_all_it_knows(stack, clock):
    built = stack(CircuitBreaker(jitter=0.0))
    for _ in range(8):
        with pytest.raises(StatusError):
            built.call(Backend(clock, StatusError(details="down")))

    with pytest.raises(Refused) as caught:
        built.call(lambda: None)

    error = caught.value
    assert (error.stack, error.policy) == ("s", "circuit_breaker")
    assert error.retry_after == pytest.approx(0.5)
    assert str(error.__cause__) == "UNAVAILABLE: down"


def test_under_asyncio_a_refusal_is_an_aio_error(stack):
    built = stack(RateLimit(0.001))
    built.call(lambda: None)

    async def function():
        raise AssertionError

    with pytest.raises(AioRefused):
        asyncio.run(built.acall(function))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_every_permit_is_given_back_when_the_world_ends(stack, error):
    sink = MemorySink()
    built = stack(Bulkhead(1) + Retry() + CircuitBreaker(), sink=sink)

    def function():
        raise error

    with pytest.raises(error):
        built.call(function)

    assert built.policy("bulkhead").in_flight == 0
    assert built.policy("circuit_breaker").state(0.0)["calls"] == 0
    assert names(sink) == []
    assert built.state().traffic.ignored == 1


def test_a_cancelled_task_gives_every_permit_back(stack):
    built = stack(Bulkhead(1) + Retry() + CircuitBreaker())

    async def main():
        task = asyncio.ensure_future(built.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        taken = built.policy("bulkhead").in_flight
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return taken

    assert asyncio.run(main()) == 1
    assert built.policy("bulkhead").in_flight == 0
    assert built.policy("circuit_breaker").state(0.0)["calls"] == 0


def test_a_task_cancelled_in_a_queue_leaves_it(stack):
    built = stack(Bulkhead(1, max_queue=5, max_wait=60.0))
    release = asyncio.Event()

    async def main():
        first = asyncio.ensure_future(built.acall(release.wait))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(built.acall(release.wait))
        await asyncio.sleep(0)
        queued = built.policy("bulkhead").state(0.0)["queued"]
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        release.set()
        await first
        return queued

    assert asyncio.run(main()) == 1
    assert built.policy("bulkhead").state(0.0)["queued"] == 0
    assert built.policy("bulkhead").in_flight == 0


def test_a_queued_task_is_let_in_when_another_ends(stack, clock):
    built = stack(Bulkhead(1, max_queue=5, max_wait=60.0))

    async def main():
        release = asyncio.Event()
        tasks = [asyncio.ensure_future(built.acall(release.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [True] * 3
    assert clock.now() == 1000.0


def test_a_place_granted_before_the_driver_waits_for_it_is_taken(stack, call, clock):
    class Generous(Sink):
        def emit(self, event):
            if event.name == "BulkheadQueued":
                built.policy("bulkhead").change({"max_concurrent": 2})

    built = stack(Bulkhead(1, max_queue=1, max_wait=60.0), sink=Generous())
    built.policy("bulkhead").admit(Call(Method("m"), 0.0), 0.0, None)

    assert call(built, lambda: "answer") == "answer"

    assert clock.now() == 1000.0


def test_a_wake_up_after_the_loop_is_gone_is_harmless(stack):
    built = stack(Bulkhead(1, max_queue=5, max_wait=60.0))
    wakes = []

    async def main():
        first = asyncio.ensure_future(built.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(built.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        (place,) = built.policy("bulkhead")._queue
        wakes.append(place.wake)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(main())

    wakes[0]()


def test_a_sink_is_told_from_the_start_and_another_from_when_it_is_attached(stack):
    first, second = MemorySink(), MemorySink(routine=True)
    built = stack(Bulkhead(1), sink=first)

    built.call(lambda: None)
    built.attach(second)
    built.call(lambda: None)
    built.detach(second)
    built.call(lambda: None)

    assert built.sinks == (first,)
    assert names(first) == []
    assert names(second) == ["BulkheadAcquired", "RequestSucceeded"]


def test_without_sinks_nothing_is_built_but_counted(stack):
    built = stack(RateLimit(0.001))
    built.call(lambda: None)

    with pytest.raises(Refused):
        built.call(lambda: None)

    assert built.emitter.sink is None
    assert built.emitter.counts["rate_limit", "RateLimitRefused"] == 1
    assert built.emitter.counts["", "RequestFailed"] == 1


def test_a_sink_that_fails_never_fails_a_call(stack, call, caplog):
    class Broken(Sink):
        routine = True

        def emit(self, event):
            raise OSError("disk full")

    built = stack(Bulkhead(1), sink=Broken())

    with caplog.at_level(logging.ERROR):
        assert call(built, lambda: "answer") == "answer"

    assert "the sink of stack 's' failed on BulkheadAcquired" in caplog.text
    assert built.emitter.counts["", "SinkFailed"] == 2


def test_the_state_tells_of_policies_and_traffic(stack, clock):
    built = stack(Timeout(1.0) + Bulkhead(3))
    clock.advance(10.0)
    built.call(Backend(clock, "answer", takes=0.5))

    state = built.state()

    assert state.name == "s"
    assert [(policy.name, policy.kind, policy.revision) for policy in state.policies] == [
        ("timeout", "Timeout", 1),
        ("bulkhead", "Bulkhead", 1),
    ]
    assert state.policies[1].values["limit"] == 3
    assert (state.traffic.calls, state.traffic.successes) == (1, 1)
    assert state.traffic.p50 == pytest.approx(0.5, rel=0.011)
    assert list(state.methods) == ["tests.unit.backend/Backend"]


def named():
    """Stand for a function of a module."""


def test_functions_are_told_apart_by_module_and_name(stack):
    built = stack(Timeout(1.0))

    built.call(len, "abc")
    built.call(named)
    built.call(lambda: None)

    assert set(built.state().methods) == {
        "builtins/len",
        "tests.unit.test_stack/named",
        "tests.unit.test_stack/test_functions_are_told_apart_by_module_and_name.<locals>.<lambda>",
    }


def test_policies_are_found_by_name(stack):
    built = stack(Timeout(1.0))

    assert built.policy("timeout").path == "s/timeout"
    with pytest.raises(UnknownNameError, match="no policy in stack 's' named 'timeot'; did you"):
        built.policy("timeot")
