"""Where events go, and how sinks compose."""

import pytest

from ninelives_grpc import Stack, Timeout, sinks
from ninelives_grpc.events import BulkheadAcquired, CircuitClosed, CircuitOpened
from ninelives_grpc.sinks import (
    FallbackSink,
    MemorySink,
    MulticastSink,
    NullSink,
    Sink,
    SinkError,
)

OPENED = CircuitOpened(
    stack="s",
    policy="breaker",
    at=5.0,
    reason="failure_rate",
    key="",
    duration=0.5,
    calls=10,
    failures=9,
    slow=0,
    failure_rate=0.9,
    code="UNAVAILABLE",
    cause="down",
)
CLOSED = CircuitClosed(stack="s", policy="breaker", at=6.0, key="", probes=3)
ROUTINE = BulkheadAcquired(stack="s", policy="bulkhead", at=5.0, in_flight=1)


class Broken(Sink):
    def __init__(self, text="disk full"):
        self.text = text

    def emit(self, event):
        raise OSError(self.text)


class Closable(Sink):
    closed = 0

    def emit(self, event):
        """Take nothing."""

    def close(self):
        self.closed += 1


def test_a_null_sink_takes_nothing_and_wants_nothing_routine():
    sink = NullSink()

    assert sink.emit(OPENED) is None
    assert sink.close() is None
    assert not sink.routine


def test_a_sink_must_say_what_it_does():
    with pytest.raises(NotImplementedError):
        Sink().emit(OPENED)


def test_plus_feeds_both():
    first, second = MemorySink(), MemorySink()

    (first + second).emit(OPENED)

    assert first.events == second.events == [OPENED]


def test_chains_of_plus_are_one_sink():
    a, b, c, d = (MemorySink() for _ in range(4))

    assert (a + b + (c + d)).sinks == (a, b, c, d)


def test_a_sink_that_fails_does_not_keep_the_others_from_their_events():
    last = MemorySink()

    with pytest.raises(SinkError) as caught:
        (Broken("one") + Broken("two") + last).emit(OPENED)

    assert last.events == [OPENED]
    assert [str(error) for error in caught.value.errors] == ["one", "two"]
    assert str(caught.value) == "Broken raised OSError: one; Broken raised OSError: two"


def test_of_several_sinks_only_those_get_routine_events_that_want_them():
    plain, eager = MemorySink(), MemorySink(routine=True)
    both = plain + eager

    both.emit(ROUTINE)

    assert both.routine
    assert not MulticastSink(plain, MemorySink()).routine
    assert (plain.events, eager.events) == ([], [ROUTINE])


def test_or_feeds_the_second_what_the_first_can_not_take():
    first, second = MemorySink(), MemorySink()

    (first | second).emit(OPENED)
    (Broken() | second).emit(CLOSED)

    assert (first.events, second.events) == ([OPENED], [CLOSED])


def test_if_both_fail_both_errors_are_told():
    with pytest.raises(SinkError) as caught:
        (Broken("one") | Broken("two")).emit(OPENED)

    assert [str(error) for error in caught.value.errors] == ["one", "two"]


def test_a_fallback_wants_what_its_first_sink_wants():
    assert FallbackSink(MemorySink(routine=True), MemorySink()).routine
    assert not FallbackSink(MemorySink(), MemorySink(routine=True)).routine


@pytest.mark.parametrize("compose", [MulticastSink, FallbackSink])
def test_closing_a_composition_closes_each_of_it(compose):
    first, second = Closable(), Closable()

    compose(first, second).close()

    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize("other", [None, 3, MemorySink])
def test_sinks_compose_with_sinks_only(other):
    assert MemorySink().__add__(other) is NotImplemented
    assert MemorySink().__or__(other) is NotImplemented


def test_a_memory_keeps_events_in_the_order_in_which_they_came():
    sink = MemorySink()

    for event in (OPENED, CLOSED, OPENED):
        sink.emit(event)

    assert sink.events == [OPENED, CLOSED, OPENED]


def test_a_flood_of_one_kind_does_not_wash_out_another():
    sink = MemorySink(size=3)

    sink.emit(CLOSED)
    for _ in range(100):
        sink.emit(OPENED)

    assert sink.events == [CLOSED] + [OPENED] * 3


def test_a_reader_goes_on_where_it_stopped():
    sink = MemorySink()
    sink.emit(OPENED)
    last = sink.numbered()[-1][0]

    sink.emit(CLOSED)

    assert sink.numbered(after=last) == [(2, CLOSED)]
    assert sink.numbered(after=2) == []


def test_a_memory_that_was_cleared_goes_on_counting():
    sink = MemorySink()
    sink.emit(OPENED)

    sink.clear()
    sink.emit(OPENED)

    assert sink.numbered() == [(2, OPENED)]


@pytest.mark.parametrize("size", [0, -1])
def test_a_memory_must_have_room(size):
    with pytest.raises(ValueError, match="size must be at least 1"):
        MemorySink(size)


def test_several_sinks_of_a_stack_are_fed_together(registry):
    first, second, third = MemorySink(), MemorySink(), MemorySink()
    stack = Stack("s", Timeout(1.0), registry=registry, sink=first)
    stack.attach(second + third)

    stack.parameters["timeout/seconds"].set(2.0)

    assert [len(sink.events) for sink in (first, second, third)] == [1, 1, 1]


def test_the_package_exports_what_it_says():
    assert all(hasattr(sinks, name) for name in sinks.__all__)
