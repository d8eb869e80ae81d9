import gc
import logging
import os
import threading
import weakref

import pytest

from ninelives_grpc.sinks import Backpressure, MemorySink, NonBlockingSink, Sink
from ninelives_grpc.testing import VirtualClock
from tests.unit.test_sinks import CLOSED, OPENED, Broken, Closable


class Slow(Sink):
    """Holds every event until it is let go."""

    def __init__(self):
        self.started = threading.Event()
        self.release = threading.Event()
        self.events = []

    def emit(self, event):
        self.started.set()
        self.release.wait(10)
        self.events.append(event)


def test_events_arrive_in_order_from_a_thread_of_its_own():
    behind = MemorySink()
    sink = NonBlockingSink(behind)

    sink.emit(OPENED)
    sink.emit(CLOSED)
    sink.close()

    assert behind.events == [OPENED, CLOSED]
    assert (sink.dropped, sink.failed) == (0, 0)


def test_a_slow_sink_blocks_nobody_and_what_does_not_fit_is_counted():
    slow = Slow()
    sink = NonBlockingSink(slow, size=2)
    sink.emit(OPENED)
    slow.started.wait(10)

    for _ in range(5):
        sink.emit(CLOSED)
    dropped = sink.dropped
    slow.release.set()
    sink.close()

    assert dropped == 3
    assert slow.events == [OPENED, CLOSED, CLOSED]


def test_closing_delivers_what_is_pending_and_closes_the_sink_behind():
    behind = Closable()
    sink = NonBlockingSink(behind)
    sink.emit(OPENED)

    sink.close()

    assert behind.closed == 1
    assert not sink._thread.is_alive()


def test_a_sink_that_was_never_used_has_no_thread_to_end():
    behind = Closable()
    sink = NonBlockingSink(behind)

    sink.close()

    assert (sink._thread, behind.closed) == (None, 1)


def test_what_comes_after_the_end_is_dropped():
    behind = MemorySink()
    sink = NonBlockingSink(behind)
    sink.close()

    sink.emit(OPENED)

    assert (sink.dropped, behind.events) == (1, [])


def test_a_failing_sink_is_logged_and_counted_and_goes_on(caplog):
    sink = NonBlockingSink(Broken())

    with caplog.at_level(logging.ERROR):
        sink.emit(OPENED)
        sink.emit(CLOSED)
        sink.close()

    assert sink.failed == 2
    assert "a sink failed on CircuitOpened" in caplog.text


@pytest.mark.parametrize("routine", [True, False])
def test_it_wants_what_the_sink_behind_wants(routine):
    assert NonBlockingSink(MemorySink(routine=routine)).routine is routine


def test_many_threads_lose_no_event():
    behind = MemorySink(size=10_000)
    sink = NonBlockingSink(behind)

    def work():
        for _ in range(200):
            sink.emit(OPENED)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()

    assert len(behind.events) + sink.dropped == 1600
    assert sink.dropped == 0


def test_a_forked_child_starts_afresh():
    behind = MemorySink()
    sink = NonBlockingSink(behind)
    sink.emit(OPENED)
    sink.close()

    sink.start_afresh()
    sink.emit(CLOSED)
    sink.close()

    assert behind.events == [OPENED, CLOSED]
    assert sink.dropped == 0


def test_the_hook_for_forked_children_does_not_keep_the_sink():
    sink = NonBlockingSink(MemorySink())
    alive = weakref.ref(sink)

    del sink
    gc.collect()

    assert alive() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_real_child_events_are_delivered_again():
    behind = MemorySink()
    sink = NonBlockingSink(behind)
    sink.emit(OPENED)
    sink.close()
    again = NonBlockingSink(behind)
    again.emit(OPENED)

    pid = os.fork()
    if pid == 0:
        behind.clear()
        again.emit(CLOSED)
        again.close()
        os._exit(0 if behind.events == [CLOSED] else 1)
    _, status = os.waitpid(pid, 0)
    again.close()

    assert os.waitstatus_to_exitcode(status) == 0


def test_it_tells_how_well_it_keeps_up():
    slow, clock = Slow(), VirtualClock()
    sink = NonBlockingSink(slow, size=3, clock=clock)
    sink.emit(OPENED)
    slow.started.wait(10)
    clock.advance(2.0)
    for _ in range(5):
        sink.emit(CLOSED)
    clock.advance(1.5)

    busy = sink.backpressure()
    slow.release.set()
    sink.close()

    assert busy == Backpressure(
        queued=4, high_water=4, delivered=0, dropped=2, failed=0, lag=pytest.approx(3.5)
    )
    assert sink.backpressure() == Backpressure(
        queued=0, high_water=4, delivered=4, dropped=2, failed=0, lag=0.0
    )


def test_a_sink_that_does_not_come_back_is_left_alone(caplog):
    slow = Slow()
    sink = NonBlockingSink(slow)
    sink.emit(OPENED)
    slow.started.wait(10)

    sink.emit(CLOSED)
    sink.close(timeout=0.0)
    lost = sink.dropped
    slow.release.set()
    sink._thread.join(10)

    assert lost == 1
    assert slow.events == [OPENED]
    assert "does not come back; it is left alone, 1 events are lost" in caplog.text


def test_a_queue_without_room_makes_no_sense():
    with pytest.raises(ValueError, match="size must be at least 1"):
        NonBlockingSink(MemorySink(), size=0)
