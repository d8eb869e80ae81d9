import logging
from dataclasses import replace

import pytest
import structlog

from ninelives_grpc import events
from ninelives_grpc.sinks import LogSink, StructlogSink, load, log_sink
from tests.unit.test_sinks import OPENED

ABOUT = {"stack": "s", "policy": "p", "at": 5.0}


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.DEBUG, logger="ninelives_grpc.events"):
        yield caplog


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.CircuitRefused(**ABOUT, key="", retry_after=1.0, cause=""), "WARNING"),
        (OPENED, "ERROR"),
        (events.ProbeReclaimed(**ABOUT, key=""), "WARNING"),
        (events.BulkheadRefused(**ABOUT, in_flight=1, limit=1, queued=0, waited=0.0), "WARNING"),
        (events.RateLimitRefused(**ABOUT, key="", retry_after=1.0, rate=1.0, burst=1.0), "WARNING"),
        (events.RetryExhausted(**ABOUT, attempts=3, reason="budget", code="UNKNOWN"), "WARNING"),
        (events.RequestFailed(**ABOUT, duration=1.0, code="UNKNOWN"), "WARNING"),
        (events.CircuitClosed(**ABOUT, key="", probes=3), "INFO"),
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
    LogSink().emit(replace(OPENED, method="shop.v1.Payments/Get"))

    (record,) = log.records
    assert record.getMessage() == (
        "CircuitOpened s/breaker shop.v1.Payments/Get: 9 of the last 10 calls failed, down"
    )
    assert record.ninelives_event == "CircuitOpened"
    assert record.ninelives_stack == "s"
    assert record.ninelives_policy == "breaker"
    assert record.ninelives_method == "shop.v1.Payments/Get"
    assert (record.ninelives_duration, record.ninelives_reason) == (0.5, "failure_rate")


def test_an_event_of_the_stack_itself_names_no_policy(log):
    LogSink().emit(
        events.RequestFailed(stack="payments", at=5.0, attempt=1, duration=0.5, code="INTERNAL")
    )

    assert log.messages == ["RequestFailed payments: INTERNAL after 1 attempt and 0.5 s"]


def test_another_logger_can_be_told(caplog):
    logger = logging.getLogger("of.the.application")

    with caplog.at_level(logging.INFO):
        LogSink(logger).emit(events.CircuitClosed(**ABOUT, key="", probes=3))

    assert [record.name for record in caplog.records] == ["of.the.application"]


def test_nothing_is_built_for_a_level_that_nobody_reads(caplog):
    class Unreadable(events.CircuitClosed):
        def why(self):
            raise AssertionError

    with caplog.at_level(logging.ERROR, logger="ninelives_grpc.events"):
        LogSink().emit(Unreadable(**ABOUT, key="", probes=3))

    assert caplog.records == []


@pytest.mark.parametrize("routine", [True, False])
def test_routine_events_are_asked_for(routine):
    assert LogSink(routine=routine).routine is routine


@pytest.fixture
def entries():
    with structlog.testing.capture_logs() as captured:
        yield captured
    structlog.reset_defaults()


def test_structlog_gets_the_fields_as_keys_and_values(entries):
    StructlogSink().emit(OPENED)

    (entry,) = entries
    assert entry["event"] == "CircuitOpened"
    assert (entry["log_level"], entry["stack"], entry["policy"]) == ("error", "s", "breaker")
    assert (entry["failures"], entry["why"]) == (9, "9 of the last 10 calls failed, down")


def test_structlog_is_taken_where_the_application_has_configured_it():
    structlog.reset_defaults()
    before = log_sink()

    structlog.configure()
    after = load("log", routine=True)

    structlog.reset_defaults()
    assert isinstance(before, LogSink)
    assert isinstance(after, StructlogSink)
    assert after.routine
