import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    Call,
    CircuitBreaker,
    ConcurrencyLimit,
    EarlyDrop,
    LoadShed,
    Method,
    Registry,
    Retry,
    Stack,
    Throttle,
    laws,
)
from ninelives_grpc.sinks import NonBlockingSink
from tests.unit.backend import Backend, StatusError
from tests.unit.steered import Steered
from tests.unit.test_non_blocking_sink import Slow
from tests.unit.test_sinks import OPENED


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def registry(reader):
    provider = MeterProvider(metric_readers=[reader])
    yield Registry(meter_provider=provider)
    provider.shutdown()


@pytest.fixture
def stack(registry, clock):
    expression = Retry(initial_backoff=1.0, jitter="none") + CircuitBreaker() + Bulkhead(8)
    return Stack("payments", expression, registry=registry, clock=clock)


def points(reader, name):
    """Return the points of one metric: value (or count and sum) by attributes."""
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    for point in metric.data.data_points:
                        key = tuple(sorted(dict(point.attributes).items()))
                        found[key] = getattr(point, "value", None)
                        if found[key] is None:
                            found[key] = (point.count, round(point.sum, 4))
    return found


def values(reader, name):
    return sorted(points(reader, name).values())


def test_calls_are_published_by_how_they_ended(stack, reader, clock):
    for _ in range(3):
        stack.call(lambda: "answer")
    with pytest.raises(StatusError):
        stack.call(Backend(clock, StatusError()))

    found = {
        (dict(key)["rpc.response.status_code"], dict(key)["ninelives.result"]): value
        for key, value in points(reader, "ninelives.calls").items()
    }

    assert found == {("OK", "success"): 3, ("UNAVAILABLE", "failure"): 1}


def test_durations_are_handed_to_the_histogram_once(stack, reader, clock):
    stack.call(Backend(clock, "answer", takes=0.5))

    first = values(reader, "ninelives.call.duration")
    second = values(reader, "ninelives.call.duration")

    assert first == second == [(1, pytest.approx(0.5, rel=0.011))]


def test_repetitions_and_their_waits_are_published(stack, reader, clock):
    stack.call(Backend(clock, StatusError(), StatusError(), "answer"))

    assert values(reader, "ninelives.call.retries") == [(1, 2)]
    assert values(reader, "ninelives.call.retry_delay") == [(1, pytest.approx(3.0, rel=0.011))]


def test_the_state_of_policies_is_published(stack, reader, clock):
    with pytest.raises(StatusError):
        stack.call(Backend(clock, StatusError()))

    states = {
        dict(key)["ninelives.state"]: value
        for key, value in points(reader, "ninelives.circuit_breaker.state").items()
    }

    assert states == {"closed": 1, "open": 0, "half_open": 0}
    assert values(reader, "ninelives.bulkhead.limit") == [8]
    assert values(reader, "ninelives.bulkhead.in_flight") == [0]
    assert values(reader, "ninelives.bulkhead.queued") == [0]
    assert values(reader, "ninelives.retry_budget.left") == [3.0]


def test_a_limit_that_moves_is_published(registry, reader, clock):
    policy = ConcurrencyLimit(initial_limit=7)
    stack = Stack("limited", policy, registry=registry, clock=clock)

    found = stack.call(lambda: values(reader, "ninelives.concurrency_limit.in_flight"))

    assert found == [1]
    assert values(reader, "ninelives.concurrency_limit.limit") == [7]


def test_the_shares_that_are_let_through_are_published(registry, reader, clock):
    policies = Throttle() + LoadShed(sources=[]) + EarlyDrop() + Bulkhead(4)
    stack = Stack("sharing", policies, registry=registry, clock=clock)
    stack.policy("load_shed").feel({"memory": 0.8}, 0.0)
    stack.policy("bulkhead").admit(Call(Method("a/B"), 0.0), 0.0, None)

    assert values(reader, "ninelives.load_shed.pressure") == [0.8]
    assert values(reader, "ninelives.load_shed.share") == [0.5]
    assert values(reader, "ninelives.early_drop.fill") == [0.25]
    assert values(reader, "ninelives.throttle.fraction") == [1.0]


def test_what_has_no_figure_is_left_out(registry, reader):
    Stack("unlimited", EarlyDrop(), registry=registry)

    assert values(reader, "ninelives.early_drop.fill") == []


def test_a_queue_is_published(registry, reader, clock):
    stack = Stack("queued", AdmissionQueue(1), registry=registry, clock=clock)
    gate = stack.policy("admission_queue")
    for _ in range(3):
        gate.admit(Call(Method("m"), 0.0), clock.now(), None)

    assert values(reader, "ninelives.admission_queue.limit") == [1]
    assert values(reader, "ninelives.admission_queue.in_flight") == [1]
    assert values(reader, "ninelives.admission_queue.queued") == [2]
    acquired = [
        value
        for key, value in points(reader, "ninelives.events").items()
        if dict(key)["ninelives.event"] == "AdmissionAcquired"
    ]
    assert acquired == [1]


def test_events_are_counted_and_good_calls_among_them(stack, reader, clock):
    stack.call(Backend(clock, StatusError(), "answer"))

    found = {
        dict(key)["ninelives.event"]: value
        for key, value in points(reader, "ninelives.events").items()
    }

    assert found == {"RetryAttempt": 1, "BulkheadAcquired": 2}


def test_what_sinks_have_lost_is_published(stack, reader):
    slow = Slow()
    sink = NonBlockingSink(slow, size=1)
    stack.attach(sink)
    nothing_lost = values(reader, "ninelives.sink.dropped")
    sink.emit(OPENED)
    slow.started.wait(10)

    for _ in range(4):
        sink.emit(OPENED)
    lost = values(reader, "ninelives.sink.dropped")
    slow.release.set()
    sink.close()

    assert (nothing_lost, lost) == ([], [3])


@pytest.mark.usefixtures("stack")
def test_stacks_to_come_are_published_too(registry, reader, clock):
    Stack("search", Bulkhead(3), registry=registry, clock=clock)

    assert values(reader, "ninelives.bulkhead.limit") == [3, 8]


def test_two_registries_may_share_a_provider(reader, clock):
    provider = MeterProvider(metric_readers=[reader])
    registries = [Registry(meter_provider=provider) for _ in range(2)]

    for n, registry in enumerate(registries):
        Stack(f"s{n}", Bulkhead(n + 1), registry=registry, clock=clock)

    assert values(reader, "ninelives.bulkhead.limit") == [1, 2]
    provider.shutdown()


def test_a_registry_that_is_gone_is_not_published(reader, clock):
    provider = MeterProvider(metric_readers=[reader])
    registry = Registry(meter_provider=provider)
    Stack("s", Bulkhead(1), registry=registry, clock=clock)

    del registry

    assert values(reader, "ninelives.bulkhead.limit") == []
    provider.shutdown()


def test_a_circuit_for_each_key_is_published(registry, reader, clock):
    stack = Stack("s", CircuitBreaker(scope="method"), registry=registry, clock=clock)
    stack.call(lambda: None)
    stack.call(len, "")

    keys = {dict(key)["ninelives.key"] for key in points(reader, "ninelives.circuit_breaker.state")}

    assert len(keys) == 2


def test_what_loops_set_and_what_they_foretell_is_published(reader, registry):
    world = Steered(laws.PredictionLaw(horizon=1.0), registry=registry)
    for _ in range(4):
        world.calls(20)
        world.tick()

    ((about, value),) = points(reader, "ninelives.loop.value").items()
    assert dict(about)["ninelives.parameter"] == "s/bulkhead/max_concurrent"
    assert value == world.handle.get()
    assert values(reader, "ninelives.loop.paused") == [0]
    foretold = {
        dict(key)["ninelives.series"]: value
        for key, value in points(reader, "ninelives.loop.forecast").items()
    }
    assert foretold["latency"] == pytest.approx(0.01, rel=0.05)
    assert foretold["load"] == pytest.approx(world.state["load_forecast"])
    errors = {
        (dict(key)["ninelives.series"], dict(key)["ninelives.statistic"])
        for key in points(reader, "ninelives.loop.forecast_error")
    }
    assert errors == {
        (series, statistic)
        for series in ("load", "latency")
        for statistic in ("mean", "bias", "naive")
    }


def test_a_loop_that_pauses_is_published(reader, registry):
    world = Steered(laws.AimdLaw(), registry=registry)
    for _ in range(5):
        world.tick()

    assert values(reader, "ninelives.loop.paused") == [1]
