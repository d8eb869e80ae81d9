import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from ninelives_grpc.clock import wall_time
from ninelives_grpc.sinks.otel import OtelLogSink
from tests.unit.test_sinks import CLOSED, OPENED


@pytest.fixture
def exported():
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    sink = OtelLogSink(provider)

    def emit(event):
        sink.emit(event)
        (found,) = exporter.get_finished_logs()
        return found.log_record

    yield emit
    provider.shutdown()


def test_an_event_is_a_record_with_severity_reason_and_fields(exported):
    record = exported(OPENED)

    assert (record.severity_text, record.severity_number.name) == ("ERROR", "ERROR")
    assert record.body == "9 of the last 10 calls failed, down"
    assert record.event_name == "ninelives.CircuitOpened"
    assert record.attributes["ninelives.failures"] == 9
    assert record.attributes["ninelives.reason"] == "failure_rate"
    assert record.timestamp == pytest.approx(wall_time(5.0) * 1e9, rel=1e-9)


def test_a_record_belongs_to_the_trace_of_its_call(exported):
    with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
        record = exported(CLOSED)

    assert record.trace_id == span.get_span_context().trace_id
    assert record.span_id == span.get_span_context().span_id


def test_without_an_sdk_nothing_happens():
    OtelLogSink().emit(OPENED)
