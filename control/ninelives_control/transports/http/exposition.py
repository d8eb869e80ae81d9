"""Metrics in the binary format of Prometheus, with native histograms of durations."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from google.protobuf.proto import serialize_length_prefixed

from ninelives_control.v1.exposition_pb2 import ExposedFamily
from ninelives_grpc.observer.metrics import DURATIONS, duration_attributes
from ninelives_grpc.observer.recorder import by_ending
from ninelives_grpc.windows.sketch import SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from ninelives_control.v1.exposition_pb2 import ExposedHistogram, ExposedMetric
    from ninelives_grpc.observer.recorder import Exemplar
    from ninelives_grpc.registry import Registry

CONTENT_TYPE = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}
_UNTYPED = 3
_NATIVE = {f"{name.replace('.', '_')}_seconds": side for side, name in DURATIONS.items()}
"""The names under which the histograms of durations are collected."""


def wanted(accept: str) -> bool:
    """Tell from a request's `Accept` whether it asks for the binary format."""
    return "application/vnd.google.protobuf" in accept


def binary(collected: Iterable[Metric], registry: Registry) -> bytes:
    """Return metrics in that format; durations as they were counted, bucket by bucket."""
    written = io.BytesIO()
    for family in (*_families(collected), *_durations(registry)):
        serialize_length_prefixed(family, written)
    return written.getvalue()


def _families(collected: Iterable[Metric]) -> Iterator[ExposedFamily]:
    for metric in collected:
        if metric.name in _NATIVE:
            continue
        kind = _TYPES.get(metric.type, _UNTYPED)
        # The binary format has the name whole, that of a counter as well.
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        family = ExposedFamily(name=name, help=metric.documentation, type=kind)
        if metric.type == "histogram":
            _classic(family, metric.samples)
        else:
            for sample in metric.samples:
                _plain(family.metrics.add(), sample, kind)
        if family.metrics:
            yield family


def _plain(exposed: ExposedMetric, sample: Sample, kind: int) -> None:
    _label(exposed, sample.labels)
    numbers = {0: exposed.counter, 1: exposed.gauge}
    number = numbers.get(kind, exposed.untyped)
    number.SetInParent()
    number.value = sample.value


def _classic(family: ExposedFamily, samples: Iterable[Sample]) -> None:
    """Put the samples of a histogram with the same labels together again."""
    histograms: dict[tuple[tuple[str, str], ...], ExposedHistogram] = {}
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = tuple(sorted(labels.items()))
        if key not in histograms:
            exposed = family.metrics.add()
            _label(exposed, labels)
            histograms[key] = exposed.histogram
        histogram = histograms[key]
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            histogram.buckets.add(upper_bound=bound, cumulative_count=int(sample.value))
        elif sample.name.endswith("_count"):
            histogram.sample_count = int(sample.value)
        elif sample.name.endswith("_sum"):
            histogram.sample_sum = sample.value


def _durations(registry: Registry) -> list[ExposedFamily]:
    families = {
        side: ExposedFamily(name=name, help="Durations of calls.", type=_TYPES["histogram"])
        for name, side in _NATIVE.items()
    }
    for stack in registry:
        totals, exemplars = stack.recorder.totals(), stack.recorder.exemplars()
        for ending, buckets in by_ending(totals.durations).items():
            exposed = families[ending.side].metrics.add()
            attributes = duration_attributes(stack, ending)
            _label(exposed, {name.replace(".", "_"): str(of) for name, of in attributes.items()})
            _native(exposed.histogram, buckets, totals.seconds[ending])
            if ending in exemplars:
                _exemplify(exposed.histogram, exemplars[ending])
    return [family for family in families.values() if family.metrics]


def _native(histogram: ExposedHistogram, buckets: dict[int, int], seconds: float) -> None:
    """Write buckets as rows without gaps, and counts as differences."""
    histogram.sample_count = sum(buckets.values())
    histogram.sample_sum = seconds
    histogram.schema = SCALE
    end = before = 0
    for bucket in sorted(buckets):
        # Prometheus numbers a bucket by its upper bound, and OTLP by its lower one.
        number = bucket + 1
        spans = histogram.positive_spans
        if not spans or number != end:
            spans.add(offset=number - end, length=0)
        spans[-1].length += 1
        end = number + 1
        histogram.positive_deltas.append(buckets[bucket] - before)
        before = buckets[bucket]


def _exemplify(histogram: ExposedHistogram, exemplar: Exemplar) -> None:
    exposed = histogram.exemplars.add(value=exemplar.duration)
    exposed.labels.add(name="trace_id", value=f"{exemplar.trace_id:032x}")
    exposed.labels.add(name="span_id", value=f"{exemplar.span_id:016x}")
    exposed.timestamp.FromNanoseconds(int(exemplar.time * 1e9))


def _label(exposed: ExposedMetric, labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        exposed.labels.add(name=name, value=value)
