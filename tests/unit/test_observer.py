import json
import random
import threading
import time
import tracemalloc

import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyLimit,
    EarlyDrop,
    LoadShed,
    Observer,
    RateLimit,
    Refused,
    Registry,
    Respond,
    Retry,
    Stack,
    UnknownNameError,
)
from ninelives_grpc.call import Call, Method, Side
from ninelives_grpc.clock import wall_time
from ninelives_grpc.events import BulkheadQueued, CircuitRefused
from ninelives_grpc.observer import observer as module
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.testing import VirtualClock
from tests.unit.backend import StatusError

BREAKER = CircuitBreaker(
    consecutive_failures=2,
    half_open_permits=1,
    open_duration=1.0,
    max_open_duration=1.0,
    jitter=0.0,
)


class World:
    def __init__(self):
        self.clock, self.registry = VirtualClock(), Registry()
        self.observer = Observer(self.registry)

    def stack(self, name, expression):
        return Stack(name, expression, registry=self.registry, clock=self.clock)

    def call(self, stack, *, fails=False, takes=0.0):
        def work():
            self.clock.advance(takes)
            if fails:
                raise StatusError

        try:
            stack.call(work)
        except (StatusError, Refused) as error:
            return error
        return None

    def policy(self, path, **asked):
        name, _, policy = path.partition("/")
        (stack,) = self.observer.metrics(stack=name, policy=policy, **asked).stacks
        (found,) = stack.policies
        return found


def refusal(at):
    return CircuitRefused(
        stack="shop",
        policy="circuit_breaker",
        at=at,
        reason="open",
        key="",
        retry_after=1.0,
        cause="",
    )


@pytest.fixture
def world():
    made = World()
    yield made
    made.observer.close()


@pytest.fixture
def shop(world):
    return world.stack("shop", BREAKER)


def test_refusals_are_counted_by_reason(world, shop):
    for _ in range(2):
        world.call(shop, fails=True)
    for _ in range(3):
        world.call(shop)
    shop.parameters["circuit_breaker/mode"].set("open")
    world.call(shop)

    found = world.policy("shop/circuit_breaker")

    assert found.refusals == {"open": 3, "forced_open": 1}
    assert found.events == {"CircuitOpened": 1, "CircuitRefused": 4, "ParameterChanged": 1}
    assert found.error_rate == pytest.approx(6 / 6)
    assert found.kind == "CircuitBreaker"


def test_what_happened_before_the_window_is_not_in_it(world, shop):
    for _ in range(2):
        world.call(shop, fails=True)
    world.call(shop)
    world.clock.advance(100.0)

    assert world.policy("shop/circuit_breaker").refusals == {}
    assert world.policy("shop/circuit_breaker", window=300.0).refusals == {"open": 1}


def test_a_circuit_tells_its_time_in_each_state_and_why(world, shop):
    world.clock.advance(10.0)
    for _ in range(2):
        world.call(shop, fails=True)
    opened = world.clock.now()
    world.clock.advance(4.0)

    (circuit,) = world.policy("shop/circuit_breaker").circuits

    moment = time.strftime("%H:%M:%S", time.gmtime(wall_time(opened)))
    assert (circuit.key, circuit.state, circuit.since) == ("", "open", 4.0)
    assert circuit.seconds == {"closed": 10.0, "open": 4.0, "half_open": 0.0}
    assert circuit.why == f"opened at {moment}: 2 calls failed in a row, UNAVAILABLE: as told"
    assert world.observer.circuit_state("shop/circuit_breaker") == circuit


def test_the_times_of_a_circuit_are_those_within_the_window(world, shop):
    for _ in range(2):
        world.call(shop, fails=True)
    world.clock.advance(100.0)
    world.call(shop, takes=2.0)
    world.clock.advance(8.0)

    (circuit,) = world.policy("shop/circuit_breaker").circuits

    assert circuit.state == "closed"
    assert circuit.since == pytest.approx(8.0)
    assert circuit.seconds["half_open"] == pytest.approx(2.0)
    assert circuit.seconds["closed"] == pytest.approx(8.0)
    assert 50.0 <= circuit.seconds["open"] <= 55.0
    assert circuit.why.endswith(": 1 probe went well")


@pytest.mark.usefixtures("shop")
def test_a_circuit_that_never_changed_has_been_closed_from_the_start(world):
    world.clock.advance(30.0)

    (circuit,) = world.policy("shop/circuit_breaker").circuits

    assert (circuit.state, circuit.since, circuit.why) == ("closed", 30.0, "")
    assert circuit.seconds == {"closed": 30.0, "open": 0.0, "half_open": 0.0}


def test_more_changes_than_are_kept_still_fill_the_window(world):
    stack = world.stack(
        "shop",
        CircuitBreaker(
            consecutive_failures=1, open_duration=0.01, max_open_duration=0.01, jitter=0.0
        ),
    )
    for _ in range(600):
        world.call(stack, fails=True)
        world.clock.advance(0.02)

    (circuit,) = world.policy("shop/circuit_breaker").circuits

    assert sum(circuit.seconds.values()) == pytest.approx(600 * 0.02)


def test_limits_tell_how_much_is_used_and_budgets_what_is_left(world):
    limits = RateLimit(10.0, burst=4.0) + Bulkhead(4) + ConcurrencyLimit(initial_limit=5)
    limits += AdmissionQueue(10)
    shares = LoadShed(sources=[]) + EarlyDrop()
    stack = world.stack("shop", Retry(3) + shares + limits)
    stack.policy("load_shed").feel({"memory": 0.6}, 0.0)
    seen = stack.call(lambda: world.observer.metrics(stack="shop").stacks[0].policies)

    used = {policy.path: policy.used for policy in seen}
    assert used["shop/bulkhead"] == pytest.approx(0.25)
    assert used["shop/rate_limit"] == pytest.approx(0.25)
    assert used["shop/concurrency_limit"] == pytest.approx(0.2)
    assert used["shop/early_drop"] == pytest.approx(0.25)
    assert used["shop/load_shed"] == pytest.approx(0.6)
    assert used["shop/admission_queue"] == pytest.approx(0.1)
    (left,) = [policy.left for policy in seen if policy.left is not None]
    assert left == pytest.approx(5.0)


def test_extra_attempts_and_answered_attempts_are_told(world):
    stack = world.stack("shop", Retry(3, initial_backoff=0.0, jitter="none") | Respond("else"))
    world.call(stack)
    world.call(stack, fails=True)

    (found,) = world.observer.metrics(stack="shop").stacks

    assert {policy.path: policy.retries for policy in found.policies}["shop/retry"] == 2
    assert (found.traffic.successes, found.traffic.attempts, found.traffic.answered) == (2, 4, 1)
    assert found.traffic.success_rate == 1.0
    assert found.traffic.backend_success_rate == 0.25


def test_the_snapshot_is_three_numbers_a_stack(world, shop):
    for _ in range(99):
        world.call(shop, takes=0.12)
    world.call(shop, fails=True, takes=0.12)
    world.stack("idle", Bulkhead(1))

    services = json.loads(json.dumps(world.observer.snapshot()))["services"]

    assert services["shop"]["success_rate"] == 0.99
    assert services["shop"]["throughput_rps"] == pytest.approx(100 / 12.0)
    assert services["shop"]["p99_latency_ms"] == pytest.approx(120, rel=0.011)
    assert services["idle"] == {"success_rate": 1.0, "throughput_rps": 0.0, "p99_latency_ms": None}


def test_error_rates_are_of_a_stack_or_of_a_policy(world):
    stack = world.stack("shop", RateLimit(1.0, burst=3.0) + BREAKER)
    world.call(stack)
    for _ in range(2):
        world.call(stack, fails=True)
    world.call(stack)

    assert world.observer.error_rate("shop") == pytest.approx(3 / 4)
    assert world.observer.error_rate("shop/rate_limit") == pytest.approx(3 / 4)
    assert world.observer.error_rate("shop/circuit_breaker") == pytest.approx(2 / 3)


@pytest.mark.usefixtures("shop")
def test_the_state_of_a_policy_can_be_asked_for(world):
    state = world.observer.policy_state("shop/circuit_breaker")

    assert (state.name, state.values["state"]) == ("circuit_breaker", "closed")


def test_who_wants_to_know_is_told_of_changes(world, shop):
    heard = []
    end = world.observer.on_change(heard.append)
    for _ in range(2):
        world.call(shop, fails=True)
    shop.parameters["circuit_breaker/minimum_calls"].set(20)
    end()
    shop.policy("circuit_breaker").reset(world.clock.now())

    assert [(change.path, change.key, change.old, change.new) for change in heard] == [
        ("shop/circuit_breaker", "", "closed", "open"),
        ("shop/circuit_breaker/minimum_calls", "", "8", "20"),
    ]
    assert heard[0].why == "2 calls failed in a row, UNAVAILABLE: as told"


def test_a_callback_that_raises_is_logged_and_never_felt(world, shop, caplog):
    heard = []
    world.observer.on_change(lambda _: 1 / 0)
    world.observer.on_change(heard.append)

    shop.parameters["circuit_breaker/minimum_calls"].set(20)

    assert len(heard) == 1
    assert (
        "a callback for state changes failed on shop/circuit_breaker/minimum_calls" in caplog.text
    )


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda o: o.metrics(61.0), "ask for one of 60, 300, 900"),
        (lambda o: o.snapshot(1.0), "ask for one of 60, 300, 900"),
        (lambda o: o.metrics(stack="shap"), "shap.*shop"),
        (lambda o: o.metrics(policy="circuit_braker"), "circuit_breaker"),
        (lambda o: o.metrics(method="nothing"), "method"),
        (lambda o: o.metrics(target="nowhere"), "target"),
        (lambda o: o.error_rate("shop/circuit_braker"), "circuit_breaker"),
        (lambda o: o.circuit_state("shop/circuit_breaker", "key"), "key"),
        (lambda o: o.policy_state("shop/bulk"), "bulk"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_what_there_is_none_of_is_said_to_be_so(world, ask, said):
    with pytest.raises((ValueError, UnknownNameError), match=said):
        ask(world.observer)


def test_series_can_be_asked_for_by_method(world, shop):
    world.call(shop)
    ((series,),) = [stack.series for stack in world.observer.metrics().stacks]

    (found,) = world.observer.metrics(method=series.method).stacks

    assert found.series == (series,)
    assert series.traffic.calls == 1


@pytest.mark.usefixtures("shop")
def test_events_beyond_the_bound_are_lost_and_counted(world, monkeypatch):
    monkeypatch.setattr(module, "_FOLD_AT", 10**9)
    monkeypatch.setattr(module, "_MOST", 100)
    for _ in range(150):
        world.observer.emit(
            BulkheadQueued(
                stack="shop",
                policy="circuit_breaker",
                at=world.clock.now(),
                in_flight=1,
                queued=1,
            )
        )

    assert world.policy("shop/circuit_breaker").events == {"BulkheadQueued": 100}
    assert world.observer.dropped == 50


def test_events_are_counted_now_and_then_though_nobody_asks(world, monkeypatch):
    monkeypatch.setattr(module, "_FOLD_AT", 10)
    for _ in range(25):
        world.observer.emit(BulkheadQueued(stack="s", at=0.0, in_flight=1, queued=1))

    assert len(world.observer._events) == 5


@pytest.mark.usefixtures("shop")
def test_threads_lose_no_event(world, monkeypatch):
    monkeypatch.setattr(module, "_FOLD_AT", 7)
    event = refusal(world.clock.now())

    def work():
        for _ in range(500):
            world.observer.emit(event)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.policy("shop/circuit_breaker").refusals == {"open": 3000}


def test_a_closed_observer_hears_nothing_more(world, shop):
    world.observer.close()
    shop.parameters["circuit_breaker/minimum_calls"].set(20)

    assert world.policy("shop/circuit_breaker").events == {}


def test_ten_minutes_of_many_methods_and_targets_stay_in_bounds():
    world, rng = World(), random.Random(11)
    stack = world.stack("shop", BREAKER)
    methods = [
        Method(f"shop.v1.Shop/M{m}", side=Side.CLIENT, target=f"host-{t}:1")
        for m in range(200)
        for t in range(50)
    ]
    tracemalloc.start()
    calls = 0
    for _ in range(120):
        for method in rng.choices(methods, k=300):
            call = Call(method, world.clock.now())
            call.attempts = 1
            outcome = succeeded(0.0) if rng.random() < 0.9 else failed(StatusError(), 0.0)
            stack.recorder.ended(call, outcome, world.clock.now() + rng.lognormvariate(-4, 1))
            calls += 1
        world.clock.advance(5.0)
        for _ in range(30):
            world.observer.emit(refusal(world.clock.now()))
    (found,) = world.observer.metrics(900.0).stacks
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.traffic.calls == calls == 36_000
    assert len(found.series) == 1001
    assert sum(series.traffic.calls for series in found.series) == calls
    (other,) = [series for series in found.series if series.method == "_OTHER"]
    assert found.overflowed == other.traffic.calls > 0
    assert stack.emitter.counts["", "RequestFailed"] == found.traffic.failures
    assert found.policies[0].refusals["open"] + world.observer.dropped == 120 * 30
    assert size < 1001 * 60 * 1024
