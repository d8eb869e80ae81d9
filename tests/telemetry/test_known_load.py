"""Load of known composition through real interceptors: what is told of it is what there was."""

import asyncio
import contextlib
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ninelives_control import ControlPlane
from ninelives_grpc import Bulkhead, Registry, Retry, Stack, aio, client_interceptors, wrap_channel
from ninelives_grpc.testing import VirtualClock

CALLS = {b"good": 120, b"bad": 40, b"missing": 30, b"flaky": 25}


class Shop:
    """Answers as the request says, and counts what it was asked."""

    def __init__(self):
        self.attempts = 0
        self._flaky = set()
        self._lock = threading.Lock()

    def __call__(self, request, context):
        word, _, number = request.partition(b" ")
        with self._lock:
            self.attempts += 1
            first = word == b"flaky" and number not in self._flaky
            self._flaky.add(number)
        if word == b"bad" or first:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        if word == b"missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return request


@pytest.fixture
def shop():
    behaviour = Shop()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "shop.v1.Shop", {"Buy": grpc.unary_unary_rpc_method_handler(behaviour)}
            ),
        )
    )
    behaviour.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield behaviour
    server.stop(0).wait()


def requests():
    return [b"%s %d" % (word, n) for word, count in CALLS.items() for n in range(count)]


def sync_load(wrap):
    def run(stack, target):
        bare = grpc.insecure_channel(target)
        channel = (
            wrap_channel(bare, stack, target=target)
            if wrap
            else grpc.intercept_channel(bare, *client_interceptors(stack, target=target))
        )
        durations = []
        with channel:
            call = channel.unary_unary("/shop.v1.Shop/Buy")
            for request in requests():
                start = time.monotonic()
                with contextlib.suppress(grpc.RpcError):
                    call(request, timeout=20)
                durations.append(time.monotonic() - start)
        return durations

    return run


def aio_load(wrap):
    async def work(stack, target):
        bare = grpc.aio.insecure_channel(
            target,
            interceptors=() if wrap else aio.client_interceptors(stack, target=target),
        )
        channel = wrap_channel(bare, stack, target=target) if wrap else bare
        durations = []
        async with channel:
            call = channel.unary_unary("/shop.v1.Shop/Buy")
            for request in requests():
                start = time.monotonic()
                with contextlib.suppress(grpc.RpcError):
                    await call(request, timeout=20)
                durations.append(time.monotonic() - start)
        return durations

    return lambda stack, target: asyncio.run(work(stack, target))


@pytest.mark.parametrize(
    "load",
    [sync_load(wrap=True), sync_load(wrap=False), aio_load(wrap=True), aio_load(wrap=False)],
    ids=["sync-wrap", "sync-interceptor", "aio-wrap", "aio-interceptor"],
)
def test_metrics_tell_what_the_generator_counted(shop, load):
    registry = Registry()
    stack = Stack(
        "shop", Retry(2, initial_backoff=0.0, jitter="none") + Bulkhead(8), registry=registry
    )
    with ControlPlane(registry, grpc_port=None, http_port=None) as plane:
        durations = load(stack, shop.target)
        # A bulkhead that is full refuses, and never asks the backend.
        stack.parameters["bulkhead/max_concurrent"].set(1)
        stack.call(lambda: [refused(stack) for _ in range(17)])
        since = stack.recorder.started
        shortest = time.monotonic() - since
        told = plane.execute("get_metrics", stack="shop", target=shop.target).stacks[0]
        longest = time.monotonic() - since

    traffic, (series,) = told.traffic, told.series
    good, bad, missing, flaky = CALLS.values()
    calls = sum(CALLS.values())
    assert traffic.calls == calls + 18
    assert (traffic.successes, traffic.failures) == (good + missing + flaky + 1, bad)
    assert traffic.refusals == 17
    assert (series.method, series.target) == ("shop.v1.Shop/Buy", shop.target)
    assert series.traffic.calls == calls
    assert series.traffic.attempts == shop.attempts
    assert series.traffic.answered == good + missing + flaky
    retry, bulkhead = (
        next(policy for policy in told.policies if policy.path == f"shop/{name}")
        for name in ("retry", "bulkhead")
    )
    assert {entry.name: entry.value for entry in bulkhead.refusals} == {"full": 17}
    assert retry.retries == shop.attempts - calls > 0
    assert traffic.success_rate == pytest.approx(traffic.successes / traffic.calls)
    assert traffic.calls / longest <= traffic.calls_per_second <= traffic.calls / shortest
    for ratio, found in ((0.5, series.traffic.p50), (0.9, series.traffic.p90)):
        exact = sorted(durations)[math.ceil(ratio * calls) - 1]
        # The generator's clock reads a little before and after ours.
        assert found == pytest.approx(exact, rel=0.35)


def refused(stack):
    with contextlib.suppress(grpc.RpcError):
        stack.call(lambda: None)


def test_percentiles_are_those_of_the_true_order_statistics():
    clock, registry = VirtualClock(), Registry()
    stack = Stack("shop", Bulkhead(1), registry=registry, clock=clock)
    durations = [0.001 * 1.01**n for n in range(700)]
    with ControlPlane(registry, grpc_port=None, http_port=None) as plane:
        for duration in durations:
            stack.call(clock.advance, min(duration, 0.05))
        told = plane.execute("get_metrics", stack="shop").stacks[0].traffic

    seen = sorted(min(duration, 0.05) for duration in durations)
    assert told.calls == 700
    assert told.calls_per_second == pytest.approx(700 / sum(seen), rel=0.01)
    for ratio, found in ((0.5, told.p50), (0.9, told.p90), (0.95, told.p95), (0.99, told.p99)):
        assert found == pytest.approx(seen[math.ceil(ratio * 700) - 1], rel=0.011)
