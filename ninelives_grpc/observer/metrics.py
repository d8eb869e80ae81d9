"""Publish what the observer knows as OpenTelemetry metrics.

Only the API is needed; the application brings the SDK. Nothing is recorded on the path of a call:
instruments are observed from our own aggregates when a reader collects, and durations are handed to
their histograms then, each as the middle of its bucket (1.1 % off at most). That takes 5 µs a call
of the reader's time; `exponential.ExponentialExporter` exports the buckets themselves instead.

A view of the application can change all of them, by the names below, such as
`View(instrument_name="rpc.client.call.duration", attribute_keys={"rpc.method"})`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Histogram, MeterProvider, Observation, get_meter

from ninelives_grpc.call import Side
from ninelives_grpc.naming import snake_case
from ninelives_grpc.observer import loops
from ninelives_grpc.observer.inspect import circuits_of
from ninelives_grpc.policies.admission_queue import AdmissionQueueGate
from ninelives_grpc.policies.budget import BudgetFlow
from ninelives_grpc.policies.bulkhead import BulkheadGate
from ninelives_grpc.policies.circuit import CircuitState
from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimitGate
from ninelives_grpc.policies.early_drop import EarlyDropGate
from ninelives_grpc.policies.load_shed import LoadShedGate
from ninelives_grpc.policies.throttle import ThrottleGate
from ninelives_grpc.windows.sketch import middle_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter

    from ninelives_grpc.observer.recorder import Ending
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import Stack

    Attributes = dict[str, str | int]

SCOPE = "ninelives_grpc"
SCHEMA = "https://opentelemetry.io/schemas/1.38.0"
"""Of the conventions that the names of attributes come from."""
DURATIONS = {
    Side.CLIENT: "rpc.client.call.duration",
    Side.SERVER: "rpc.server.call.duration",
    Side.FUNCTION: "ninelives.call.duration",
}
"""The histograms of durations."""
SYSTEM, METHOD = "rpc.system.name", "rpc.method"
STATUS = "rpc.response.status_code"
"""The conventions have called it `rpc.grpc.status_code`, and may yet call it something else."""
STACK, POLICY, EVENT = "ninelives.stack", "ninelives.policy", "ninelives.event"
SERVER, PORT = "server.address", "server.port"
RESULT, STATE, KEY = "ninelives.result", "ninelives.state", "ninelives.key"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_RETRIES = (1.0, 2.0, 3.0, 4.0, 5.0)

_FIGURES: tuple[tuple[type[Live[Any]], str, str, str], ...] = (
    (AdmissionQueueGate, "in_flight", "{call}", "Calls that hold a place."),
    (AdmissionQueueGate, "limit", "{call}", "Places there are."),
    (AdmissionQueueGate, "queued", "{call}", "Calls that wait for their turn."),
    (BulkheadGate, "in_flight", "{call}", "Calls that hold a place."),
    (BulkheadGate, "limit", "{call}", "Places there are."),
    (BulkheadGate, "queued", "{call}", "Calls that wait for a place."),
    (ConcurrencyLimitGate, "in_flight", "{call}", "Calls that run."),
    (ConcurrencyLimitGate, "limit", "{call}", "Calls that may run at once now."),
    (EarlyDropGate, "fill", "1", "How full the limit behind is."),
    (LoadShedGate, "pressure", "1", "How near a limit the process is."),
    (LoadShedGate, "share", "1", "Share of the calls that is served."),
    (ThrottleGate, "fraction", "1", "Fraction of the calls that is sent; the least of all keys."),
)
"""What of the state of a policy is published, with unit and description."""


class Metrics:
    """The instruments of one meter provider, and the registries that they tell of."""

    def __init__(self, meter: Meter) -> None:
        """Create the instruments."""
        self.registries: weakref.WeakSet[Registry] = weakref.WeakSet()
        self._recorded: weakref.WeakKeyDictionary[Stack, list[Counter[Any]]] = (
            weakref.WeakKeyDictionary()
        )
        self._durations = {
            Side.CLIENT: _histogram(meter, DURATIONS[Side.CLIENT], "calls made, all attempts"),
            Side.SERVER: _histogram(meter, DURATIONS[Side.SERVER], "calls served"),
            Side.FUNCTION: _histogram(meter, DURATIONS[Side.FUNCTION], "protected functions"),
        }
        self._retries = meter.create_histogram(
            "ninelives.call.retries",
            "{retry}",
            "Repetitions of calls that were repeated (gRFC A96).",
            explicit_bucket_boundaries_advisory=_RETRIES,
        )
        self._delay = _histogram(meter, "ninelives.call.retry_delay", "waits between attempts")
        self._observe_all(meter)

    def _observe_all(self, meter: Meter) -> None:
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        counter("ninelives.calls", [self._over(_calls)], "{call}", "Calls, by how they ended.")
        counter("ninelives.events", [self._over(_events)], "{event}", "What policies did.")
        gauge(
            "ninelives.circuit_breaker.state",
            [self._over(_circuits)],
            "",
            "1 for the state that a circuit is in, 0 for the others.",
        )
        for kind, name, unit, text in _FIGURES:
            full = f"ninelives.{snake_case(kind.__name__.removesuffix('Gate'))}.{name}"
            gauge(full, [self._over(_figure(kind, name))], unit, text)
        gauge(
            "ninelives.retry_budget.left",
            [self._over(_budgets)],
            "{attempt}",
            "Extra attempts that could be paid now.",
        )
        for name, observe_loops, text in loops.GAUGES:
            gauge(name, [self._over(observe_loops)], "", text)
        counter(
            "ninelives.sink.dropped", [self._over(_dropped)], "{event}", "Events lost by sinks."
        )

    def _over(
        self, observe: Callable[[Stack], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """Make a callback that observes all stacks."""

        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for registry in tuple(self.registries):
                for stack in registry:
                    if observe is _calls:
                        self._record(stack)
                    yield from observe(stack)

        return callback

    def _record(self, stack: Stack) -> None:
        """Hand what has ended since the last time to the histograms."""
        totals = stack.recorder.totals()
        now: list[Counter[Any]] = [totals.durations, totals.retries, totals.delays]
        before = self._recorded.get(stack) or [Counter(), Counter(), Counter()]
        self._recorded[stack] = now
        durations, retries, delays = (new - old for new, old in zip(now, before, strict=True))
        for (ending, bucket), count in durations.items():
            attributes = duration_attributes(stack, ending)
            _repeat(self._durations[ending.side], middle_of(bucket), count, attributes)
        for (method, repeated), count in retries.items():
            _repeat(self._retries, repeated, count, _about(stack) | {METHOD: method})
        for (method, bucket), count in delays.items():
            _repeat(self._delay, middle_of(bucket), count, _about(stack) | {METHOD: method})


_by_provider: weakref.WeakKeyDictionary[MeterProvider, Metrics] = weakref.WeakKeyDictionary()
_global: list[Metrics] = []


def observe(registry: Registry, meter_provider: MeterProvider | None = None) -> None:
    """Publish the stacks of a registry, those to come as well.

    Args:
        registry: What to publish; it is not kept alive.
        meter_provider: Where to; by default the global one, also if it is set later.
    """
    if meter_provider is None:
        if not _global:
            _global.append(Metrics(get_meter(SCOPE, _version(), schema_url=SCHEMA)))
        metrics = _global[0]
    else:
        found = _by_provider.get(meter_provider)
        metrics = found or Metrics(meter_provider.get_meter(SCOPE, _version(), SCHEMA))
        _by_provider[meter_provider] = metrics
    metrics.registries.add(registry)


def _version() -> str:
    try:
        return version("ninelives-grpc")
    except PackageNotFoundError:
        # Run from a checkout that nobody has installed.
        return ""


def _histogram(meter: Meter, name: str, what: str) -> Histogram:
    return meter.create_histogram(
        name, "s", f"Duration of {what}.", explicit_bucket_boundaries_advisory=_SECONDS
    )


def _repeat(histogram: Histogram, value: float, count: int, attributes: Attributes) -> None:
    for _ in range(count):
        histogram.record(value, attributes)


def _about(stack: Stack, live: Live[Any] | None = None) -> Attributes:
    return {STACK: stack.name} if live is None else {STACK: stack.name, POLICY: live.name}


def duration_attributes(stack: Stack, ending: Ending) -> Attributes:
    """Return the attributes under which the durations of calls are published."""
    attributes = _about(stack) | {METHOD: ending.method, STATUS: ending.code}
    if ending.side is not Side.FUNCTION:
        attributes[SYSTEM] = "grpc"
    return attributes | _server(ending.target)


def _server(target: str) -> Attributes:
    """Take a target apart into address and port, as far as it has them."""
    if not target:
        return {}
    address, _, port = target.rpartition(":")
    if not (address and port.isdecimal()):
        return {SERVER: target}
    return {SERVER: address, PORT: int(port)}


def _calls(stack: Stack) -> Iterator[Observation]:
    for ending, count in stack.recorder.totals().calls.items():
        attributes = {METHOD: ending.method, STATUS: ending.code, RESULT: ending.result}
        yield Observation(count, _about(stack) | attributes | _server(ending.target))


def _events(stack: Stack) -> Iterator[Observation]:
    for (policy, event), count in tuple(stack.emitter.counts.items()):
        yield Observation(count, _about(stack) | {POLICY: policy, EVENT: event})
    for live in stack.policies.values():
        if isinstance(live, BulkheadGate):
            yield Observation(live.acquired, _about(stack, live) | {EVENT: "BulkheadAcquired"})
        elif isinstance(live, AdmissionQueueGate):
            yield Observation(live.acquired, _about(stack, live) | {EVENT: "AdmissionAcquired"})


def _circuits(stack: Stack) -> Iterator[Observation]:
    now = stack.clock.now()
    for live in stack.policies.values():
        for key, state in circuits_of(live, now).items():
            for each in CircuitState:
                attributes = _about(stack, live) | {KEY: key, STATE: str(each)}
                yield Observation(int(state == each), attributes)


def _figure(kind: type[Live[Any]], name: str) -> Callable[[Stack], Iterator[Observation]]:
    def observe_figure(stack: Stack) -> Iterator[Observation]:
        now = stack.clock.now()
        for live in stack.policies.values():
            value = live.state(now)[name] if isinstance(live, kind) else None
            if isinstance(value, int | float):
                yield Observation(value, _about(stack, live))

    return observe_figure


def _budgets(stack: Stack) -> Iterator[Observation]:
    now = stack.clock.now()
    for live in stack.policies.values():
        if isinstance(live, BudgetFlow):
            left = live.state(now)["left"]
            assert isinstance(left, float)
            yield Observation(left, _about(stack, live))


def _dropped(stack: Stack) -> Iterator[Observation]:
    dropped = sum(sink.dropped for sink in stack.sinks)
    if dropped:
        yield Observation(dropped, _about(stack))
