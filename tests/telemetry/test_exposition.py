import io
import threading
from contextlib import suppress

import pytest
from google.protobuf.proto import parse_length_prefixed

from ninelives_control import ControlPlane
from ninelives_control.v1.exposition_pb2 import ExposedFamily
from ninelives_grpc import Bulkhead, CircuitBreaker, Registry, Retry, Stack
from ninelives_grpc.testing import VirtualClock
from ninelives_grpc.windows.sketch import upper_bound
from tests.web.http_asker import fetch

ACCEPT = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)


@pytest.fixture
def plane():
    with ControlPlane(Registry(), grpc_port=None, http_port=0) as made:
        yield made


def families(plane):
    answer = fetch(plane, "GET", "/metrics", headers={"Accept": ACCEPT})
    assert answer.headers["Content-Type"].startswith("application/vnd.google.protobuf; proto=io.")
    stream, found = io.BytesIO(answer.body), {}
    while (family := parse_length_prefixed(ExposedFamily, stream)) is not None:
        found[family.name] = family
    return found


def labels(metric):
    return {label.name: label.value for label in metric.labels}


def buckets(histogram):
    """Return the counts of a native histogram by the upper bound of their bucket."""
    found, number, count, deltas = {}, 0, 0, iter(histogram.positive_deltas)
    for span in histogram.positive_spans:
        number += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[2 ** (number / 2**histogram.schema)] = count
            number += 1
    return found


def test_durations_are_native_histograms_bucket_by_bucket(plane):
    clock = VirtualClock()
    stack = Stack("shop", Bulkhead(8), registry=plane.registry, clock=clock)
    for duration in (0.1, 0.1, 0.101, 3.0):
        stack.call(clock.advance, duration)

    (metric,) = families(plane)["ninelives_call_duration_seconds"].metrics

    kept = stack.recorder.totals().durations
    assert buckets(metric.histogram) == pytest.approx(
        {upper_bound(bucket): count for (_, bucket), count in kept.items()}
    )
    assert (metric.histogram.sample_count, metric.histogram.schema) == (4, 5)
    assert metric.histogram.sample_sum == pytest.approx(3.301)
    assert labels(metric)["ninelives_stack"] == "shop"


def test_everything_else_is_as_in_the_text(plane):
    stack = Stack(
        "shop",
        Retry(2, initial_backoff=0.0, jitter="none") + CircuitBreaker(),
        registry=plane.registry,
    )
    with suppress(ConnectionError):
        stack.call(lambda: (_ for _ in ()).throw(ConnectionError()))

    found = families(plane)

    (calls,) = found["ninelives_calls_total"].metrics
    assert (calls.counter.value, labels(calls)["ninelives_result"]) == (1.0, "failure")
    closed = next(
        metric
        for metric in found["ninelives_circuit_breaker_state"].metrics
        if labels(metric)["ninelives_state"] == "closed"
    )
    assert closed.gauge.value == 1.0
    (retries,) = found["ninelives_call_retries"].metrics
    bounds = {bucket.upper_bound: bucket.cumulative_count for bucket in retries.histogram.buckets}
    assert (retries.histogram.sample_count, bounds[1.0], bounds[float("inf")]) == (1, 1, 1)


# One in thirty times a connection accepted in the very last moment is left to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_scrapes_while_it_stops_are_answered_or_refused_and_never_a_trace(caplog):
    registry = Registry()
    Stack("shop", Bulkhead(8), registry=registry).call(lambda: 1)
    plane = ControlPlane(registry, grpc_port=None, http_port=0).start()
    statuses, scraped = [], threading.Event()

    def scrape():
        while True:
            try:
                statuses.append(fetch(plane, "GET", "/metrics").status)
            except OSError:
                return
            finally:
                scraped.set()

    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    scraped.wait(20)
    plane.stop()
    for thread in threads:
        thread.join(20)

    assert set(statuses) <= {200, 503}
    assert not any(thread.is_alive() for thread in threads)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
