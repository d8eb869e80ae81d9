import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from ninelives_grpc.events import ParameterChanged
from ninelives_grpc.sinks.otel import SpanSink
from tests.unit.test_sinks import OPENED


@pytest.fixture
def tracer():
    return TracerProvider().get_tracer("test")


def test_an_event_is_added_to_the_current_span(tracer):
    with tracer.start_as_current_span("call") as span:
        SpanSink().emit(OPENED)

    (event,) = span.events
    assert event.name == "ninelives.CircuitOpened"
    assert dict(event.attributes) == {
        "ninelives.stack": "s",
        "ninelives.policy": "breaker",
        "ninelives.key": "",
        "ninelives.reason": "failure_rate",
        "ninelives.why": "9 of the last 10 calls failed, down",
        "ninelives.duration": 0.5,
        "ninelives.calls": 10,
        "ninelives.failures": 9,
        "ninelives.slow": 0,
        "ninelives.code": "UNAVAILABLE",
        "ninelives.failure_rate": 0.9,
        "ninelives.cause": "down",
    }


def test_a_value_that_is_not_there_is_left_out(tracer):
    event = ParameterChanged(
        stack="s", method="m", at=0.0, parameter="x", old=None, new=1, revision=2, by="", reason=""
    )

    with tracer.start_as_current_span("call") as span:
        SpanSink().emit(event)

    attributes = span.events[0].attributes
    assert "ninelives.old" not in attributes
    assert attributes["rpc.method"] == "m"


def test_without_a_span_nothing_happens():
    SpanSink().emit(OPENED)

    assert not trace.get_current_span().is_recording()
