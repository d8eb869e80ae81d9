"""Who asks the loops: a thread, or a task of asyncio; neither is left behind."""

import asyncio
import gc
import os
import threading
import weakref

import pytest

from ninelives_grpc import Bulkhead, FeedbackLoop, Registry, Stack, aio
from ninelives_grpc.testing import assert_ended, assert_settled
from tests.waiting import until


class Asked:
    """A law that counts, and tells whoever waits."""

    learns_from_calls = False

    def __init__(self):
        self.times = 0
        self.threads = set()
        self.asked = threading.Event()

    def calculate(self, metrics, current):
        self.times += 1
        self.threads.add(threading.current_thread().name)
        self.asked.set()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ninelives-loops"]


def loop_in(registry, interval=0.01, name="s"):
    law = Asked()
    stack = Stack(name, Bulkhead(10), registry=registry)
    loop = FeedbackLoop(law, stack.parameters["bulkhead/max_concurrent"], interval=interval)
    return law, registry.add_loop(loop)


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    registry.stop_loops()
    assert threads() == []


def test_a_thread_asks_loops_until_they_are_stopped(registry):
    law, _ = loop_in(registry)
    assert law.asked.wait(10)
    assert law.threads == {"ninelives-loops"}

    registry.stop_loops()

    assert threads() == []
    times = law.times
    registry.start_loops()
    until(lambda: law.times > times)


def test_all_loops_of_a_registry_share_a_thread_which_ends_with_the_last(registry):
    laws = [loop_in(registry, name=name) for name in ("a", "b", "c")]
    for law, _ in laws:
        assert law.asked.wait(10)
    assert len(threads()) == 1

    for _, loop in laws:
        registry.remove_loop(loop)

    assert threads() == []


def test_a_loop_that_is_taken_in_later_does_not_wait_for_the_others(registry):
    loop_in(registry, interval=3600.0, name="slow")

    law, _ = loop_in(registry, name="quick")

    assert law.asked.wait(10)


def test_a_shorter_interval_wakes_the_thread(registry):
    law, loop = loop_in(registry, interval=3600.0)

    loop.parameter("interval").set(0.01)

    assert law.asked.wait(10)


def test_loops_may_be_stopped_from_inside_one(registry):
    law, loop = loop_in(registry)

    class Stops:
        learns_from_calls = False

        def calculate(self, metrics, current):
            registry.stop_loops()
            law.asked.set()

    stack = Stack("stops", Bulkhead(10), registry=registry)
    registry.remove_loop(loop)
    law.asked.clear()
    loop = FeedbackLoop(Stops(), stack.parameters["bulkhead/max_concurrent"], interval=0.01)
    registry.add_loop(loop)

    assert law.asked.wait(10)
    until(lambda: not threads())


def test_a_registry_that_nobody_has_any_more_leaves_no_thread():
    registry = Registry()
    law, loop = loop_in(registry, interval=3600.0)
    gone = weakref.ref(registry)
    assert len(threads()) == 1

    del registry, law, loop
    gc.collect()

    assert gone() is None
    until(lambda: not threads())


def test_a_task_asks_the_loops_in_place_of_the_thread(registry):
    law, _ = loop_in(registry)

    async def main():
        task = asyncio.create_task(aio.run_loops(registry))
        await asyncio.sleep(0)
        assert threads() == []
        law.threads.clear()
        law.asked.clear()
        await asyncio.to_thread(law.asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert law.threads == {"MainThread"}
    assert threads() == []
    assert not registry.runner.running


def test_a_task_ends_when_the_loops_are_stopped_from_another_thread(registry):
    law, _ = loop_in(registry, interval=3600.0)

    async def main():
        task = asyncio.create_task(aio.run_loops(registry))
        await asyncio.sleep(0)
        await asyncio.to_thread(registry.stop_loops)
        await task

    asyncio.run(asyncio.wait_for(main(), 10))

    assert law.times == 0


def test_a_task_hears_of_a_loop_that_comes_later(registry):
    async def main():
        task = asyncio.create_task(aio.run_loops(registry))
        await asyncio.sleep(0)
        law, _ = loop_in(registry)
        await asyncio.to_thread(law.asked.wait, 10)
        assert law.threads == {"MainThread"}
        task.cancel()

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_asks_the_loops_in_a_thread_of_its_own(registry):
    law, _ = loop_in(registry)
    assert law.asked.wait(10)

    child = os.fork()
    if not child:
        law.asked.clear()
        os._exit(0 if law.asked.wait(10) else 1)

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_bulkhead_that_a_loop_resizes_under_threads_settles_every_place(registry):
    class Swings:
        learns_from_calls = False

        def calculate(self, metrics, current):
            return 2.0 if current > 2.0 else 12.0

    stack = Stack("s", Bulkhead(12, max_queue=8, max_wait=10.0), registry=registry)
    handle = stack.parameters["bulkhead/max_concurrent"]
    loop = registry.add_loop(FeedbackLoop(Swings(), handle, interval=0.01))

    def calls():
        for _ in range(200):
            stack.call(threading.get_ident)

    callers = [threading.Thread(target=calls) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    until(lambda: loop.adjusted > 1)
    registry.stop_loops()

    assert_settled(stack)
    assert_ended(stack, success=1600)
    assert loop.errors == 0
