"""`ninelives_grpc.testing` as the tests of a service use it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Refused, Retry, Stack, Timeout, wrap_channel
from ninelives_grpc.testing import ScriptedBackend, VirtualClock, answer, assert_settled, fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc import Registry

GET = "/shop.Cart/Get"
WATCH = "/shop.Cart/Watch"


@pytest.fixture
def scripted() -> Iterator[ScriptedBackend]:
    with ScriptedBackend() as backend:
        yield backend


def test_a_service_shows_in_ten_lines_that_it_rides_out_a_failure(registry: Registry) -> None:
    stack = Stack("cart", Timeout(5.0) + Retry(), clock=VirtualClock(), registry=registry)
    with ScriptedBackend() as backend:
        backend.script(GET, fail(StatusCode.UNAVAILABLE), answer(StringValue(value="2 items")))
        with wrap_channel(grpc.insecure_channel(backend.target), stack) as channel:
            get = channel.unary_unary(GET, StringValue.SerializeToString, StringValue.FromString)
            cart = get(StringValue(value="me"))

    assert cart.value == "2 items"
    assert len(backend.calls(GET)) == 2
    assert_settled(stack)


def test_an_attempt_shows_metadata_time_left_and_requests(scripted: ScriptedBackend) -> None:
    scripted.script(GET, answer(b"a"), answer(b"b"))
    with grpc.insecure_channel(scripted.target) as channel:
        # gRPC rounds a timeout up when it sends it: a little less stays below the bound.
        channel.unary_unary(GET)(b"request", metadata=(("tenant", "t"),), timeout=19.9)
        channel.stream_unary(GET)(iter((b"1", b"2")))

    first, second = scripted.calls(GET)
    assert first.metadata["tenant"] == "t"
    assert first.remaining is not None
    assert 0 < first.remaining <= 20.0
    assert first.requests == [b"request"]
    assert second.requests == [b"1", b"2"]
    assert second.remaining is None


def test_a_failure_has_code_details_and_pushback(scripted: ScriptedBackend) -> None:
    scripted.script(GET, fail(StatusCode.ABORTED, "too late", pushback=1.5))
    with (
        grpc.insecure_channel(scripted.target) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(GET)(b"")

    error: Any = caught.value
    assert error.code() is StatusCode.ABORTED
    assert error.details() == "too late"
    assert ("grpc-retry-pushback-ms", "1500") in error.trailing_metadata()


def test_a_stream_is_cut_half_way(scripted: ScriptedBackend) -> None:
    scripted.script(WATCH, fail(StatusCode.UNAVAILABLE, messages=(b"1", b"2")))
    with grpc.insecure_channel(scripted.target) as channel:
        stream = channel.unary_stream(WATCH)(b"")
        got = [next(stream), next(stream)]
        with pytest.raises(grpc.RpcError):
            next(stream)

    assert got == [b"1", b"2"]
    assert stream.code() is StatusCode.UNAVAILABLE


def test_the_last_reply_is_for_all_calls_after_it(scripted: ScriptedBackend) -> None:
    scripted.script(GET, answer(b"1"), answer(b"2"))
    with grpc.insecure_channel(scripted.target) as channel:
        assert [channel.unary_unary(GET)(b"") for _ in range(4)] == [b"1", b"2", b"2", b"2"]


def test_a_method_without_script_says_so(scripted: ScriptedBackend) -> None:
    with (
        grpc.insecure_channel(scripted.target) as channel,
        pytest.raises(grpc.RpcError, match=r"the test has no script for /shop\.Cart/Get"),
    ):
        channel.unary_unary(GET)(b"")


@pytest.mark.parametrize("method", ["shop.Cart/Get", "/Get", "/shop/Cart/Get"])
def test_what_is_no_path_is_refused(method: str, scripted: ScriptedBackend) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        scripted.script(method, answer())


def test_an_answer_waits_for_an_event_and_meanwhile_holds_its_place(
    scripted: ScriptedBackend, registry: Registry
) -> None:
    stack, go_on = Stack("cart", Bulkhead(1), registry=registry), threading.Event()
    scripted.script(GET, answer(b"late", wait_for=go_on))
    with wrap_channel(grpc.insecure_channel(scripted.target), stack) as channel:
        get = channel.unary_unary(GET)
        held = get.future(b"")
        scripted.wait_for_calls(GET, 1)

        with pytest.raises(Refused):
            get(b"")
        with pytest.raises(AssertionError, match="stack 'cart' still holds bulkhead/in_flight = 1"):
            assert_settled(stack, within=0.0)
        go_on.set()

        assert held.result(20.0) == b"late"
    assert_settled(stack)


def test_a_probe_under_way_is_held(scripted: ScriptedBackend, registry: Registry) -> None:
    clock = VirtualClock()
    breaker = CircuitBreaker(consecutive_failures=1, scope="method")
    stack, go_on = Stack("cart", breaker, clock=clock, registry=registry), threading.Event()
    scripted.script(GET, fail(StatusCode.UNAVAILABLE), answer(b"", wait_for=go_on))
    with wrap_channel(grpc.insecure_channel(scripted.target), stack) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(GET)(b"")
        clock.advance(10.0)
        probe = channel.unary_unary(GET).future(b"")
        scripted.wait_for_calls(GET, 2)

        with pytest.raises(AssertionError, match=r"probes = 1 of shop\.Cart/Get"):
            assert_settled(stack, within=0.0)
        go_on.set()
        probe.result(20.0)
    assert_settled(stack)


def test_a_call_that_waits_is_let_go_when_its_client_leaves(scripted: ScriptedBackend) -> None:
    scripted.script(GET, answer(b"", wait_for=threading.Event()), answer(b"next"))
    with grpc.insecure_channel(scripted.target) as channel:
        held = channel.unary_unary(GET).future(b"")
        scripted.wait_for_calls(GET, 1)
        held.cancel()

        assert channel.unary_unary(GET)(b"") == b"next"


def test_waiting_in_vain_for_calls_says_how_many_came(scripted: ScriptedBackend) -> None:
    with pytest.raises(AssertionError, match=r"0 calls of /shop\.Cart/Get have come in 0 s, not 1"):
        scripted.wait_for_calls(GET, 1, timeout=0.0)


async def test_asyncio_clients_call_it_too(scripted: ScriptedBackend, registry: Registry) -> None:
    stack = Stack("cart", Bulkhead(1) + Retry(initial_backoff=0.0), registry=registry)
    scripted.script(WATCH, fail(StatusCode.UNAVAILABLE), answer(b"1", b"2"))
    async with wrap_channel(grpc.aio.insecure_channel(scripted.target), stack) as channel:
        stream = channel.unary_stream(WATCH)(b"")
        messages = [message async for message in stream]

    assert messages == [b"1", b"2"]
    await asyncio.to_thread(assert_settled, stack)


async def test_in_an_event_loop_what_is_not_settled_says_how_to_wait(
    scripted: ScriptedBackend, registry: Registry
) -> None:
    stack, go_on = Stack("cart", Bulkhead(1), registry=registry), threading.Event()
    scripted.script(GET, answer(b"", wait_for=go_on))
    async with wrap_channel(grpc.aio.insecure_channel(scripted.target), stack) as channel:
        held = channel.unary_unary(GET)(b"")
        with pytest.raises(AssertionError, match=r"await asyncio.to_thread"):
            assert_settled(stack)
        go_on.set()
        await held


def test_it_needs_no_test_framework() -> None:
    program = "import sys, ninelives_grpc.testing; print(' '.join(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    heavy = {"pytest", "_pytest", "hypothesis", "unittest", "opentelemetry.sdk"}
    assert not heavy & set(done.stdout.split())
