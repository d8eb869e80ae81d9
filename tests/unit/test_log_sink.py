import logging

import pytest

from ninelives_grpc import events
from ninelives_grpc.sinks import LogSink

ABOUT = {"stack": "s", "policy": "p", "at": 5.0}


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.DEBUG, logger="ninelives_grpc.events"):
        yield caplog


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.CircuitRefused(**ABOUT, key="", retry_after=1.0), "WARNING"),
        (events.ProbeReclaimed(**ABOUT, key=""), "WARNING"),
        (events.BulkheadRefused(**ABOUT, in_flight=1, queued=0, waited=0.0), "WARNING"),
        (events.RateLimitRefused(**ABOUT, key="", retry_after=1.0), "WARNING"),
        (events.RetryExhausted(**ABOUT, attempts=3, reason="budget", code="UNKNOWN"), "WARNING"),
        (events.RequestFailed(**ABOUT, duration=1.0, code="UNKNOWN"), "WARNING"),
        (events.CircuitClosed(**ABOUT, key=""), "INFO"),
        (events.RetryAttempt(**ABOUT, attempt=2, delay=0.1, code="UNKNOWN"), "INFO"),
        (events.BulkheadAcquired(**ABOUT, in_flight=1), "DEBUG"),
        (events.RequestSucceeded(**ABOUT, duration=1.0), "DEBUG"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_trouble_is_a_warning_and_routine_is_for_debugging(log, event, level):
    LogSink(routine=True).emit(event)

    assert [record.levelname for record in log.records] == [level]


def test_an_event_is_one_line_and_its_fields_are_attributes_as_well(log):
    event = events.CircuitOpened(
        stack="payments",
        policy="circuit_breaker",
        method="shop.v1.Payments/Get",
        at=5.0,
        key="",
        duration=0.51234567,
        failure_rate=0.9,
        cause="down",
    )

    LogSink().emit(event)

    (record,) = log.records
    assert record.getMessage() == (
        "CircuitOpened payments/circuit_breaker shop.v1.Payments/Get"
        " key= duration=0.5123 failure_rate=0.9 cause=down"
    )
    assert record.ninelives_event == "CircuitOpened"
    assert record.ninelives_stack == "payments"
    assert record.ninelives_policy == "circuit_breaker"
    assert record.ninelives_method == "shop.v1.Payments/Get"
    assert record.ninelives_duration == 0.51234567


def test_an_event_of_the_stack_itself_names_no_policy(log):
    LogSink().emit(events.RequestFailed(stack="payments", at=5.0, duration=0.5, code="INTERNAL"))

    assert log.messages == ["RequestFailed payments duration=0.5 code=INTERNAL"]


def test_another_logger_can_be_told(caplog):
    logger = logging.getLogger("of.the.application")

    with caplog.at_level(logging.INFO):
        LogSink(logger).emit(events.CircuitClosed(**ABOUT, key=""))

    assert [record.name for record in caplog.records] == ["of.the.application"]


def test_nothing_is_built_for_a_level_that_nobody_reads(caplog):
    class Unreadable(events.CircuitClosed):
        def details(self):
            raise AssertionError

    with caplog.at_level(logging.ERROR, logger="ninelives_grpc.events"):
        LogSink().emit(Unreadable(**ABOUT, key=""))

    assert caplog.records == []


@pytest.mark.parametrize("routine", [True, False])
def test_routine_events_are_asked_for(routine):
    assert LogSink(routine=routine).routine is routine
