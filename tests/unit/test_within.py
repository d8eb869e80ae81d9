"""Awaiting something within a limit, on a clock that only moves when told to."""

import asyncio

import pytest

from ninelives_grpc import Stack, Timeout
from ninelives_grpc.interceptors.within import LimitReachedError, within
from ninelives_grpc.testing import VirtualClock


@pytest.fixture
def stack(clock, registry):
    return Stack("s", Timeout(1.0), clock=clock, registry=registry)


async def at_once():
    return "ready"


def run(work):
    async def main():
        return await work()

    return asyncio.run(main())


class Untimed(VirtualClock):
    def timeout(self, until):
        raise AssertionError(until)


def test_what_is_ready_at_once_needs_no_timer(registry):
    stack = Stack("s", Timeout(1.0), clock=Untimed(), registry=registry)

    assert run(lambda: within(1001.0, stack, at_once())) == "ready"


def test_what_waits_several_times_gets_what_it_waited_for(stack):
    async def work():
        loop = asyncio.get_running_loop()
        values = []
        for value in (1, 2):
            future = loop.create_future()
            loop.call_soon(future.set_result, value)
            values.append(await future)
            await asyncio.sleep(0)
        return values

    assert run(lambda: within(1001.0, stack, work())) == [1, 2]


def test_what_takes_longer_is_cancelled_and_may_tidy_up(stack, clock):
    tidied = []

    async def work():
        asyncio.get_running_loop().call_soon(clock.advance, 2.0)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append("up")

    with pytest.raises(LimitReachedError):
        run(lambda: within(1001.0, stack, work()))

    assert tidied == ["up"]


def test_a_time_out_of_its_own_is_not_taken_for_the_limit(stack):
    async def work():
        await asyncio.sleep(0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run(lambda: within(1001.0, stack, work()))


@pytest.mark.parametrize("waits", [False, True])
def test_what_it_raises_passes_through(stack, waits):
    async def work():
        if waits:
            await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        run(lambda: within(1001.0, stack, work()))


def test_a_cancel_from_outside_reaches_the_work(stack):
    heard = []

    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async def main():
        task = asyncio.ensure_future(within(1001.0, stack, work()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())

    assert heard == ["cancelled"]


def test_a_wait_that_is_dropped_closes_the_work(stack):
    closed = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    async def main():
        waiting = within(1001.0, stack, work())
        waiting.send(None)
        waiting.close()

    asyncio.run(main())

    assert closed == ["closed"]


def test_messages_of_an_async_generator_come_one_by_one(stack):
    async def messages():
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def main():
        source = messages()
        got = [await within(1001.0, stack, anext(source)) for _ in range(2)]
        with pytest.raises(StopAsyncIteration):
            await within(1001.0, stack, anext(source))
        return got

    assert run(main) == [1, 2]
