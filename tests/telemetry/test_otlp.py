import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from ninelives_grpc import CircuitBreaker, Registry, Stack
from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.observer.exponential import ExponentialExporter
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.windows.sketch import Sketch
from tests.unit.backend import StatusError

EXPORT = "opentelemetry.proto.collector.metrics.v1.MetricsService"


@pytest.fixture
def over_grpc():
    """A receiver of OTLP over gRPC: what came, and an exporter to it."""
    came = []

    def export(request, _):
        came.append(request)
        return ExportMetricsServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        ExportMetricsServiceRequest.FromString,
        ExportMetricsServiceResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(EXPORT, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield came, OverGrpc(endpoint=f"http://127.0.0.1:{port}", insecure=True)
    server.stop(0).wait()


@pytest.fixture
def over_http():
    """A receiver of OTLP over HTTP: what came, and an exporter to it."""
    came = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield came, OverHttp(endpoint=f"http://127.0.0.1:{server.server_port}/v1/metrics")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["grpc", "http"])
def receiver(request):
    return request.getfixturevalue(f"over_{request.param}")


class World:
    def __init__(self, exporter, temporality):
        self.registry = Registry()
        exporting = ExponentialExporter(exporter, self.registry, temporality=temporality)
        reader = PeriodicExportingMetricReader(exporting, export_interval_millis=1e9)
        self.provider = MeterProvider(
            metric_readers=[reader],
            resource=Resource.create({"service.name": "shop"}),
            shutdown_on_exit=False,
        )
        self.registry._meter_provider = self.provider
        self.stack = Stack("shop", CircuitBreaker(), registry=self.registry)

    def calls(self, durations, outcome=None):
        for duration in durations:
            method = Method("shop.v1.Shop/Buy", side=Side.CLIENT, target="shop.internal:443")
            call = Call(method, 100.0)
            call.attempts = 1
            self.stack.recorder.ended(call, outcome or succeeded(0.0), 100.0 + duration)


def metrics_in(request):
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "ninelives_grpc"
    assert scope.schema_url.startswith("https://opentelemetry.io/schemas/")
    assert ("service.name", "shop") in [
        (a.key, a.value.string_value) for a in resource.resource.attributes
    ]
    return {metric.name: metric for metric in scope.metrics}


def points_of(metric):
    return {
        next(
            a.value.string_value for a in point.attributes if a.key == "rpc.response.status_code"
        ): point
        for point in metric.exponential_histogram.data_points
    }


@pytest.mark.parametrize(
    "temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA]
)
def test_a_receiver_gets_the_buckets_that_were_counted(receiver, temporality):
    came, exporter = receiver
    world = World(exporter, temporality)
    first = [n / 1000 for n in range(1, 500)]
    world.calls(first)
    world.calls([1.0, 2.0], failed(StatusError(), 0.0))
    world.provider.force_flush()
    world.calls([3.0])
    world.provider.force_flush()
    world.provider.shutdown()

    one, two = (points_of(metrics_in(request)["rpc.client.call.duration"]) for request in came[:2])
    delta = temporality is AggregationTemporality.DELTA
    assert sorted(one) == ["OK", "UNAVAILABLE"]
    assert sorted(two) == (["OK"] if delta else ["OK", "UNAVAILABLE"])
    point, later = one["OK"], two["OK"]
    expected = dict(Sketch(first).buckets())
    counted = {
        point.positive.offset + n: count
        for n, count in enumerate(point.positive.bucket_counts)
        if count
    }
    assert counted == expected
    assert (point.scale, point.count) == (5, len(first))
    assert point.sum == pytest.approx(sum(first))
    assert point.min <= min(first) <= max(first) <= point.max
    assert later.count == (1 if delta else len(first) + 1)
    assert later.sum == pytest.approx(3.0 if delta else sum(first) + 3.0)
    assert (later.start_time_unix_nano == point.time_unix_nano) is delta
    attributes = {a.key: a.value for a in point.attributes}
    assert attributes["server.address"].string_value == "shop.internal"
    assert attributes["server.port"].int_value == 443
    assert attributes["rpc.system.name"].string_value == "grpc"


def test_counts_that_arrive_are_those_of_the_recorder(over_grpc):
    came, exporter = over_grpc
    world = World(exporter, AggregationTemporality.CUMULATIVE)
    world.calls([0.1] * 30)
    world.calls([0.1] * 12, failed(StatusError(), 0.0))
    world.provider.force_flush()
    world.provider.shutdown()

    metrics = metrics_in(came[0])
    arrived = sum(point.as_int for point in metrics["ninelives.calls"].sum.data_points)
    assert arrived == world.stack.recorder.totals().calls.total() == 42
    assert "ninelives.circuit_breaker.state" in metrics
    events = {
        next(
            a.value.string_value for a in point.attributes if a.key == "ninelives.event"
        ): point.as_int
        for point in metrics["ninelives.events"].sum.data_points
    }
    assert events["RequestFailed"] == 12


def test_a_receiver_that_is_down_is_felt_by_nobody(caplog):
    world = World(
        OverGrpc(endpoint="http://127.0.0.1:9", insecure=True, timeout=0.2),
        AggregationTemporality.CUMULATIVE,
    )
    world.stack.call(lambda: 1)

    world.provider.force_flush(500)

    assert world.stack.call(lambda: "answer") == "answer"
    world.provider.shutdown(timeout_millis=500)


def test_a_call_with_a_span_is_an_example_of_its_kind(over_grpc):
    came, exporter = over_grpc
    world = World(exporter, AggregationTemporality.CUMULATIVE)
    with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
        world.calls([0.25], failed(StatusError(), 0.0))
    world.calls([0.5], failed(StatusError(), 0.0))
    world.provider.force_flush()
    world.provider.shutdown()

    point = points_of(metrics_in(came[0])["rpc.client.call.duration"])["UNAVAILABLE"]
    (exemplar,) = point.exemplars
    assert (point.count, exemplar.as_double) == (2, 0.25)
    assert int.from_bytes(exemplar.trace_id, "big") == span.get_span_context().trace_id
    assert int.from_bytes(exemplar.span_id, "big") == span.get_span_context().span_id


def test_of_good_calls_one_in_a_thousand_is_an_example(over_grpc):
    _, exporter = over_grpc
    world = World(exporter, AggregationTemporality.CUMULATIVE)
    with TracerProvider().get_tracer("test").start_as_current_span("call"):
        world.calls([0.1] * 1023)
        before = world.stack.recorder.exemplars()
        world.calls([0.2])
    world.provider.shutdown()

    (exemplar,) = world.stack.recorder.exemplars().values()
    assert before == {}
    assert exemplar.duration == pytest.approx(0.2)
