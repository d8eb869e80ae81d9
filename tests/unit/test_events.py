import dataclasses
import logging

import pytest

from ninelives_grpc import events
from ninelives_grpc.events import (
    AdmissionAcquired,
    BulkheadAcquired,
    CircuitOpened,
    Emitter,
    RequestSucceeded,
    Severity,
)
from ninelives_grpc.sinks import Sink
from ninelives_grpc.testing import MemorySink
from tests.unit.test_sinks import OPENED, ROUTINE

KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
]


def test_an_event_is_named_by_its_kind_and_tells_what_it_adds():
    assert OPENED.name == "CircuitOpened"
    assert OPENED.details() == {
        "key": "",
        "duration": 0.5,
        "calls": 10,
        "failures": 9,
        "slow": 0,
        "failure_rate": 0.9,
        "code": "UNAVAILABLE",
        "cause": "down",
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_a_frozen_value_with_a_sentence(kind):
    assert kind.__doc__.strip().splitlines()[0].endswith(".")
    assert kind.__dataclass_params__.frozen
    assert {"stack", "policy", "method", "at", "attempt", "reason"} <= {
        field.name for field in dataclasses.fields(kind)
    }
    assert "why" in vars(kind)


def test_all_kinds_are_found_by_name():
    assert set(KINDS) <= set(events.KINDS.values())
    assert events.KINDS["CircuitOpened"] is CircuitOpened


def test_severities_have_an_order():
    ranks = [Severity(word).rank for word in ("debug", "info", "warning", "error")]

    assert ranks == sorted(set(ranks))


def test_what_refuses_a_call_or_fails_it_is_a_warning_at_least():
    for kind in KINDS:
        if kind.refuses or kind.__name__ in {"RequestFailed", "TimeoutOccurred"}:
            assert kind.severity is Severity.WARNING
    assert CircuitOpened.severity is Severity.ERROR
    assert {kind for kind in KINDS if kind.severity is Severity.DEBUG} == {
        AdmissionAcquired,
        BulkheadAcquired,
        RequestSucceeded,
    }


def test_an_event_is_counted_without_anyone_to_listen_and_not_worth_building_then():
    emitter, sink = Emitter("s"), MemorySink()
    count = emitter.counter_of("breaker")

    count(CircuitOpened)
    assert emitter.sink is None
    emitter.attach(sink)
    count(CircuitOpened)
    assert emitter.sink is sink

    assert emitter.counts == {("breaker", "CircuitOpened"): 2}
    assert sink.events == []


def test_what_happens_on_every_good_call_is_routine_and_nothing_else():
    routine = {kind for kind in KINDS if kind.routine}

    assert routine == {AdmissionAcquired, BulkheadAcquired, RequestSucceeded}


def test_an_emitter_counts_and_hands_on():
    emitter, sink = Emitter("s"), MemorySink()
    emitter.emit(OPENED)

    emitter.attach(sink)
    emitter.emit(OPENED)

    assert emitter.counts == {("breaker", "CircuitOpened"): 2}
    assert sink.events == [OPENED]


@pytest.mark.parametrize(("wanted", "got"), [(False, []), (True, [ROUTINE])])
def test_routine_events_go_only_where_they_are_wanted(wanted, got):
    emitter, sink = Emitter("s"), MemorySink(routine=wanted)
    emitter.attach(sink)

    emitter.emit(ROUTINE)

    assert emitter.routine is wanted
    assert sink.events == got
    assert emitter.counts == {}


def test_nobody_listens_after_the_sink_was_taken_away():
    emitter, sink = Emitter("s"), MemorySink(routine=True)
    emitter.attach(sink)

    emitter.attach(None)
    emitter.emit(OPENED)

    assert (emitter.routine, sink.events) == (False, [])


def test_a_sink_that_raises_is_logged_and_counted(caplog):
    class Broken(Sink):
        def emit(self, event):
            raise OSError("disk full")

    emitter = Emitter("s")
    emitter.attach(Broken())

    with caplog.at_level(logging.ERROR):
        emitter.emit(OPENED)

    assert emitter.counts["", "SinkFailed"] == 1
    assert "the sink of stack 's' failed on CircuitOpened" in caplog.text
    assert "disk full" in caplog.text
