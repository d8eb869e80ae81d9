"""Export durations as exponential histograms, bucket by bucket as they were counted.

Nothing is recorded for that: OTLP's buckets of scale 5 are those of our sketch. This needs the
OpenTelemetry SDK, which the application brings.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
)

from ninelives_grpc.clock import wall_time
from ninelives_grpc.observer.metrics import DURATIONS, SCOPE, duration_attributes
from ninelives_grpc.observer.recorder import by_ending
from ninelives_grpc.registry import default_registry
from ninelives_grpc.windows.sketch import SCALE, upper_bound

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExportResult

    from ninelives_grpc.call import Side
    from ninelives_grpc.observer.recorder import Ending, Exemplar
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import Stack

_NANO = 1_000_000_000
_NONE = Buckets(offset=0, bucket_counts=[])


class ExponentialExporter(MetricExporter):
    """Stands before an exporter, and replaces our histograms of durations by exponential ones.

    reader = PeriodicExportingMetricReader(ExponentialExporter(OTLPMetricExporter()))

    Counts and sums are exact, and any percentile of what arrives is 1.1 % off at most.

    Args:
        exporter: Where everything goes.
        registry: Whose stacks; by default `default_registry`.
        temporality: Whether each export tells all since the start, or what has come since the last.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        registry: Registry | None = None,
        *,
        temporality: AggregationTemporality = AggregationTemporality.CUMULATIVE,
    ) -> None:
        """Stand before an exporter."""
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,
            preferred_aggregation=exporter._preferred_aggregation,
        )
        self._exporter = exporter
        self._registry = default_registry if registry is None else registry
        self._temporality = temporality
        self._told: dict[str, tuple[int, Counter[Any], dict[Ending, float]]] = {}

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Replace, and hand on."""
        replaced = dataclasses.replace(
            metrics_data,
            resource_metrics=[
                dataclasses.replace(
                    resource,
                    scope_metrics=[
                        self._replaced(scope) if scope.scope.name == SCOPE else scope
                        for scope in resource.scope_metrics
                    ],
                )
                for resource in metrics_data.resource_metrics
            ],
        )
        return self._exporter.export(replaced, timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Hand on."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Hand on."""
        self._exporter.shutdown(timeout_millis, **kwargs)

    def _replaced(self, scope: Any) -> Any:
        others = [metric for metric in scope.metrics if metric.name not in DURATIONS.values()]
        return dataclasses.replace(scope, metrics=[*others, *self._histograms()])

    def _histograms(self) -> list[Metric]:
        now = time.time_ns()
        points: dict[Side, list[ExponentialHistogramDataPoint]] = defaultdict(list)
        for stack in self._registry:
            for side, point in self._points(stack, now):
                points[side].append(point)
        return [
            Metric(
                name=DURATIONS[side],
                description="Durations of calls, all their attempts.",
                unit="s",
                data=ExponentialHistogram(found, aggregation_temporality=self._temporality),
            )
            for side, found in points.items()
        ]

    def _points(self, stack: Stack, now: int) -> list[tuple[Side, ExponentialHistogramDataPoint]]:
        totals, exemplars = stack.recorder.totals(), stack.recorder.exemplars()
        start, counts, sums = int(wall_time(stack.recorder.started) * _NANO), totals.durations, {}
        if self._temporality is AggregationTemporality.DELTA:
            told = self._told.get(stack.name, (start, Counter(), {}))
            self._told[stack.name] = (now, totals.durations, totals.seconds)
            start, counts, sums = told[0], totals.durations - told[1], told[2]
        return [
            (
                ending.side,
                _point(
                    found,
                    totals.seconds[ending] - sums.get(ending, 0.0),
                    duration_attributes(stack, ending),
                    start,
                    now,
                    exemplars.get(ending),
                ),
            )
            for ending, found in by_ending(counts).items()
        ]


def _point(
    buckets: dict[int, int],
    seconds: float,
    attributes: dict[str, Any],
    start: int,
    now: int,
    exemplar: Exemplar | None,
) -> ExponentialHistogramDataPoint:
    first, last = min(buckets), max(buckets)
    counts = [buckets.get(bucket, 0) for bucket in range(first, last + 1)]
    return ExponentialHistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(counts),
        sum=seconds,
        scale=SCALE,
        zero_count=0,
        positive=Buckets(offset=first, bucket_counts=counts),
        negative=_NONE,
        flags=0,
        min=upper_bound(first - 1),
        max=upper_bound(last),
        exemplars=[] if exemplar is None else [_told(exemplar)],
    )


def _told(exemplar: Exemplar) -> SdkExemplar:
    return SdkExemplar(
        filtered_attributes={},
        value=exemplar.duration,
        time_unix_nano=int(exemplar.time * _NANO),
        span_id=exemplar.span_id,
        trace_id=exemplar.trace_id,
    )
