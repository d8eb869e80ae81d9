"""What feedback loops set, and what their laws foretell, as OpenTelemetry gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from ninelives_grpc.laws.prediction import RunningPrediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc.laws.holt import Holt
    from ninelives_grpc.laws.loop import FeedbackLoop
    from ninelives_grpc.stacks.stack import Stack

    Attributes = dict[str, str | int]
    Observe = Callable[[Stack], Iterator[Observation]]

STACK, POLICY = "ninelives.stack", "ninelives.policy"
PARAMETER, SERIES, STATISTIC = "ninelives.parameter", "ninelives.series", "ninelives.statistic"


def values(stack: Stack) -> Iterator[Observation]:
    """Observe what the parameters are that loops move."""
    for loop, about in _loops(stack):
        value = loop.handle.get()
        if value is not None:
            yield Observation(value, about)


def paused(stack: Stack) -> Iterator[Observation]:
    """Observe which loops pause."""
    for loop, about in _loops(stack):
        yield Observation(int(bool(loop.paused)), about)


def forecasts(stack: Stack) -> Iterator[Observation]:
    """Observe what is foretold."""
    for name, series, about in _forecasts(stack):
        if series.forecast is not None:
            yield Observation(series.forecast, about | {SERIES: name})


def forecast_errors(stack: Stack) -> Iterator[Observation]:
    """Observe how wrong forecasts were: on average, with their sign, and had none been made."""
    for name, series, about in _forecasts(stack):
        for statistic, found in (
            ("mean", series.mean_error),
            ("bias", series.bias),
            ("naive", series.naive_error),
        ):
            if found is not None:
                yield Observation(found, about | {SERIES: name, STATISTIC: statistic})


GAUGES: tuple[tuple[str, Observe, str], ...] = (
    ("ninelives.loop.value", values, "Value of the parameter that a feedback loop moves."),
    ("ninelives.loop.paused", paused, "1 while a feedback loop pauses, 0 while it works."),
    ("ninelives.loop.forecast", forecasts, "What load and latency will be, by a law."),
    ("ninelives.loop.forecast_error", forecast_errors, "How wrong its forecasts were of late."),
)
"""Their names, what observes them, and what they tell."""


def _loops(stack: Stack) -> Iterator[tuple[FeedbackLoop, Attributes]]:
    for loop in stack.loops:
        yield loop, {STACK: stack.name, POLICY: loop.name, PARAMETER: loop.handle.path}


def _forecasts(stack: Stack) -> Iterator[tuple[str, Holt, Attributes]]:
    for loop, about in _loops(stack):
        if isinstance(loop.running, RunningPrediction):
            for name, series in loop.running.forecasts.items():
                yield name, series, about
