"""The machine's clock, and the virtual one that stands in for it."""

import asyncio
import gc
import threading

import pytest

from ninelives_grpc.clock import MONOTONIC, MonotonicClock, wall_time
from ninelives_grpc.testing import VirtualClock


def test_the_machines_clock_never_goes_back():
    times = [MONOTONIC.now() for _ in range(100)]

    assert times == sorted(times)


def test_wall_time_moves_with_the_clock():
    now = MONOTONIC.now()

    assert wall_time(now + 100.0) - wall_time(now) == pytest.approx(100.0, abs=1.0)
    assert wall_time(now) > 1.7e9


@pytest.mark.parametrize("until", [None, 1e6], ids=["for ever", "long"])
def test_who_is_woken_does_not_wait(until):
    clock, woken = MonotonicClock(), threading.Event()
    woken.set()
    at = None if until is None else clock.now() + until

    clock.wait(woken, at)


def test_a_time_that_has_passed_is_not_waited_for():
    clock = MonotonicClock()

    clock.wait(threading.Event(), clock.now() - 1.0)


def test_under_asyncio_neither_is():
    machine = MonotonicClock()

    async def main():
        woken = asyncio.Event()
        await machine.wait_async(woken, machine.now() - 1.0)
        woken.set()
        await machine.wait_async(woken, None)
        await machine.wait_async(woken, machine.now() + 1e6)
        return "done"

    assert asyncio.run(main()) == "done"


def test_a_machine_timeout_fires_when_its_time_has_passed():
    clock = MonotonicClock()

    async def main():
        with pytest.raises(TimeoutError):
            async with clock.timeout(clock.now() - 1.0):
                await asyncio.Event().wait()
        async with clock.timeout(None):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_virtual_time_stands_still_until_it_is_moved():
    clock = VirtualClock(50.0)
    before = clock.now()

    clock.advance(2.5)

    assert (before, clock.now()) == (50.0, 52.5)


def test_a_virtual_wait_jumps_to_its_end():
    clock = VirtualClock(0.0)

    clock.wait(threading.Event(), 3600.0)
    after_an_hour = clock.now()
    clock.wait(threading.Event(), 10.0)

    assert after_an_hour == clock.now() == 3600.0


def test_a_virtual_wait_for_what_has_happened_does_not_move_time():
    clock, woken = VirtualClock(0.0), threading.Event()
    woken.set()

    clock.wait(woken, 3600.0)
    clock.wait(woken, None)

    assert clock.now() == 0.0


def test_a_virtual_wait_without_end_is_a_real_one():
    clock, woken = VirtualClock(0.0), threading.Event()
    thread = threading.Thread(target=clock.wait, args=(woken, None))
    thread.start()

    woken.set()
    thread.join(10)

    assert not thread.is_alive()


def sleeper(clock, until, log):
    async def sleep():
        await clock.wait_async(asyncio.Event(), until)
        log.append((until, clock.now()))

    return sleep()


def test_tasks_wake_in_the_order_of_their_times():
    clock, log = VirtualClock(0.0), []

    async def main():
        await asyncio.gather(*(sleeper(clock, until, log) for until in (5.0, 1.0, 3.0, 3.0)))

    asyncio.run(main())

    assert log == [(1.0, 1.0), (3.0, 3.0), (3.0, 3.0), (5.0, 5.0)]


def test_a_task_that_is_woken_in_time_does_not_move_the_clock():
    clock = VirtualClock(0.0)

    async def main():
        woken = asyncio.Event()
        waiting = asyncio.ensure_future(clock.wait_async(woken, 3600.0))
        await asyncio.sleep(0)
        woken.set()
        await waiting

    asyncio.run(main())

    assert clock.now() == 0.0


def test_a_task_that_is_cancelled_is_not_waited_for():
    clock, log = VirtualClock(0.0), []

    async def main():
        early = asyncio.ensure_future(sleeper(clock, 1.0, log))
        late = asyncio.ensure_future(sleeper(clock, 9.0, log))
        await asyncio.sleep(0)
        early.cancel()
        await late

    asyncio.run(main())

    assert log == [(9.0, 9.0)]


def test_a_wait_without_end_ends_when_woken():
    clock = VirtualClock(0.0)

    async def main():
        woken = asyncio.Event()
        waiting = asyncio.ensure_future(clock.wait_async(woken, None))
        await asyncio.sleep(0)
        woken.set()
        await waiting

    asyncio.run(main())

    assert clock.now() == 0.0


def test_a_time_that_has_passed_is_not_waited_for_in_virtual_time():
    clock, log = VirtualClock(10.0), []

    asyncio.run(sleeper(clock, 5.0, log))

    assert log == [(5.0, 10.0)]


def test_a_virtual_timeout_fires_when_the_clock_passes_it():
    clock, log = VirtualClock(0.0), []

    async def work():
        async with clock.timeout(2.0):
            clock.advance(1.9)
            await asyncio.sleep(0)
            log.append(clock.now())
            clock.advance(0.1)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(work())

    assert log == [1.9]


def test_a_virtual_timeout_comes_before_a_later_wake_up():
    clock, log = VirtualClock(0.0), []

    async def main():
        with pytest.raises(TimeoutError):
            async with clock.timeout(2.0):
                await sleeper(clock, 5.0, log)
        log.append(clock.now())

    asyncio.run(main())

    assert log == [2.0]


def test_a_virtual_timeout_in_the_past_fires_at_once():
    clock = VirtualClock(10.0)

    async def main():
        with pytest.raises(TimeoutError):
            async with clock.timeout(10.0):
                await asyncio.Event().wait()

    asyncio.run(main())


def test_a_virtual_timeout_that_was_left_in_time_never_fires():
    clock = VirtualClock(0.0)

    async def main():
        limit = clock.timeout(2.0)
        async with limit:
            await asyncio.sleep(0)
        async with clock.timeout(None):
            clock.advance(5.0)
            await asyncio.sleep(0)
        return limit.expired()

    assert asyncio.run(main()) is False


def test_timeouts_that_nobody_holds_are_forgotten():
    clock = VirtualClock(0.0)

    async def main():
        for _ in range(100):
            async with clock.timeout(1e6):
                pass

    asyncio.run(main())
    gc.collect()

    assert len(clock._timeouts) == 0
