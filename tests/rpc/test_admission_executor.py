"""A sync server whose pool keeps the queue: in order, at once when refused, and nothing lost."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ninelives_grpc import (
    AdmissionExecutor,
    AdmissionQueue,
    Bulkhead,
    Method,
    RateLimit,
    Respond,
    Routes,
    Timeout,
    server_interceptor,
)
from ninelives_grpc.admission import status
from ninelives_grpc.admission.job import Job
from ninelives_grpc.admission.ticket import ARRIVAL, entrance_of
from ninelives_grpc.pressure import PoolQueue
from ninelives_grpc.testing import MemorySink

from . import leaks
from .backend import ANSWER, DOWN, PATIENCE, STALL, Backend, RpcKind
from .handlers import plain_handlers
from .served import seen, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack
    from ninelives_grpc.call import Call

every_kind = pytest.mark.parametrize("kind", RpcKind)
UNARY = RpcKind.UNARY_UNARY


class Shop:
    """A server with an executor, its script, and a channel to it."""

    def __init__(self, stack: Stack | Routes, backend: Backend, opened: ExitStack, pool: Any):
        self.backend = backend
        self.pool = pool
        self.stalled: list[Any] = []
        self.server = grpc.server(pool, interceptors=[server_interceptor(stack)])
        self.server.add_generic_rpc_handlers((plain_handlers(backend),))
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        opened.callback(pool.shutdown)
        opened.callback(lambda: self.server.stop(None).wait())
        opened.callback(backend.release)
        self.channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))

    def start(self, kind: RpcKind = UNARY, **options: Any) -> Any:
        return start(self.channel, kind, **options)

    def busy(self, workers: int = 1) -> list[Any]:
        """Have all workers at calls that stall."""
        self.backend.plays(*[STALL] * workers)
        # gRPC cancels what nobody holds.
        self.stalled = [self.start() for _ in range(workers)]
        self.backend.wait_until_stalled(workers)
        return self.stalled


@pytest.fixture
def shop(new_stack: object, backend: Backend, opened: ExitStack) -> Callable[..., Shop]:
    """Start a server, by default with one worker, that is closed before stacks are looked at."""
    assert new_stack

    def make(stack: Stack | Routes, workers: int = 1, pool: Any = None) -> Shop:
        return Shop(stack, backend, opened, pool or AdmissionExecutor(workers))

    return make


def gate_of(stack: Stack) -> Any:
    return stack.policy("admission_queue")


def wait_for(stack: Stack, queued: int) -> None:
    """Wait until so many calls are in line."""
    gate = gate_of(stack)
    leaks.eventually(lambda: gate.state(0.0)["queued"] == queued, lambda: gate.state(0.0))


def learn(stack: Stack, seconds: float) -> None:
    """Have the queue know what a call takes."""
    with gate_of(stack)._lock:
        for _ in range(500):
            gate_of(stack)._law.service.add(seconds, 0.02)


@every_kind
def test_a_call_is_served_by_a_worker_and_counted_once(
    kind: RpcKind, shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    server = shop(stack, 2)

    answers = [seen(server.start(kind, timeout=PATIENCE), kind).code for _ in range(3)]

    assert answers == [StatusCode.OK] * 3
    leaks.eventually(lambda: leaks.counted(stack) == 3, lambda: leaks.counted(stack))
    state = gate_of(stack).state(0.0)
    assert (state["acquired"], state["refused"], state["limit"]) == (3, 0, 2)
    assert state["service_time"] > 0


@every_kind
def test_a_call_that_would_be_late_is_told_so_while_every_worker_is_busy(
    kind: RpcKind, shop: Any, new_stack: Callable[..., Stack]
) -> None:
    sink = MemorySink()
    stack = new_stack(AdmissionQueue(), sink=sink)
    server = shop(stack)
    server.busy()
    learn(stack, 60.0)

    call = server.start(kind, timeout=PATIENCE)
    answer = seen(call, kind)

    assert answer.code is StatusCode.RESOURCE_EXHAUSTED
    assert "it could not be served in time" in answer.details
    assert int(dict(answer.trailers)["grpc-retry-pushback-ms"]) == 1000
    assert server.backend.attempts == 1
    assert leaks.results(stack)["RESOURCE_EXHAUSTED", "refused"] == 1
    assert [event.name for event in sink.events] == ["AdmissionRefused", "RequestFailed"]


def test_a_refusal_on_arrival_takes_no_thread_and_reads_no_request(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    server = shop(stack, pool=AdmissionExecutor(1, thread_name_prefix="no-thread"))
    read: list[bytes] = []
    server.server.add_generic_rpc_handlers((_reading(read),))
    server.busy()
    learn(stack, 60.0)

    with pytest.raises(grpc.RpcError) as refused:
        server.channel.unary_unary("/test.Reading/Do")(b"late", timeout=PATIENCE)

    assert "it could not be served in time" in refused.value.details()
    assert read == []
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("no-thread-refusal")]


@every_kind
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_refusal_is_the_same_where_only_handlers_can_tell_it(
    known: bool,
    kind: RpcKind,
    shop: Any,
    new_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a version of gRPC that ends calls in another way."""
    assert status._KNOWN, "this gRPC ends calls in another way than we know"
    monkeypatch.setattr(status, "_KNOWN", known)
    stack = new_stack(AdmissionQueue(max_queue=0, weight=0.5))
    server = shop(stack)
    server.busy()
    learn(stack, 0.2)

    answer = seen(server.start(kind, timeout=PATIENCE), kind)

    assert answer.code is StatusCode.RESOURCE_EXHAUSTED
    assert answer.details.endswith("the queue is full, 0 wait for 1 places")
    assert dict(answer.trailers)["grpc-retry-pushback-ms"] == "200"
    leaks.eventually(lambda: leaks.counted(stack) == 1, lambda: leaks.counted(stack))


def test_an_interceptor_around_ours_sees_the_refusals(
    backend: Backend, opened: ExitStack, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    around = Around()
    pool = AdmissionExecutor(1)
    opened.callback(pool.shutdown)
    server = grpc.server(pool, interceptors=[around, server_interceptor(stack)])
    server.add_generic_rpc_handlers((plain_handlers(backend),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    opened.callback(lambda: server.stop(None).wait())
    opened.callback(backend.release)
    channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
    backend.plays(STALL)
    stalled = start(channel, UNARY)
    backend.wait_until_stalled()
    learn(stack, 60.0)

    assert seen(start(channel, UNARY, timeout=PATIENCE), UNARY).code is (
        StatusCode.RESOURCE_EXHAUSTED
    )
    assert around.ended == [StatusCode.RESOURCE_EXHAUSTED]
    assert not stalled.done()
    backend.release()


class Around(grpc.ServerInterceptor):
    """Wraps handlers, and notes with which code calls ended by an exception."""

    def __init__(self) -> None:
        self.ended: list[StatusCode] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)

        def wrapped(request: Any, context: Any) -> Any:
            try:
                return handler.unary_unary(request, context)
            except Exception:
                self.ended.append(context.code())
                raise

        return grpc.unary_unary_rpc_method_handler(wrapped)


def _reading(read: list[bytes]) -> grpc.GenericRpcHandler:
    """Return the handler of `/test.Reading/Do`, which notes the requests that are read."""

    def deserialize(request: bytes) -> bytes:
        read.append(request)
        return request

    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request, deserialize)
    return grpc.method_handlers_generic_handler("test.Reading", {"Do": handler})


def test_a_registered_method_tells_its_deadline_too(
    shop: Any, opened: ExitStack, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    server = shop(stack)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
    pool = AdmissionExecutor(1)
    opened.callback(pool.shutdown)
    other = grpc.server(pool, interceptors=[server_interceptor(stack)])
    other.add_registered_method_handlers("test.Registered", {"Do": handler})
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    opened.callback(lambda: other.stop(None).wait())
    channel = opened.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
    call: Any = channel.unary_unary("/test.Registered/Do", _registered_method=True)
    assert call(b"in time", timeout=PATIENCE) == b"in time"
    server.busy()
    leaks.eventually(lambda: gate_of(stack).state(0.0)["limit"] == 2, str)
    gate_of(stack).parameter("width").set(1)
    learn(stack, 60.0)

    with pytest.raises(grpc.RpcError) as refused:
        call(b"late", timeout=PATIENCE)

    assert "it could not be served in time" in refused.value.details()


def test_who_has_waited_too_long_is_thrown_out_while_nothing_else_happens(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=0.05))
    server = shop(stack)
    server.busy()

    answers = [seen(call, UNARY) for call in [server.start(), server.start()]]

    assert {answer.code for answer in answers} == {StatusCode.RESOURCE_EXHAUSTED}
    assert "its turn did not come in time" in answers[0].details
    assert server.backend.attempts == 1


def test_what_matters_most_is_served_first(shop: Any, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    server.busy()
    calls = []
    for number, priority in enumerate(("background", "normal", "critical", "high"), 1):
        calls.append(server.start(metadata=(("x-ninelives-priority", priority),)))
        wait_for(stack, number)

    server.backend.release()

    assert [seen(call, UNARY).code for call in calls] == [StatusCode.OK] * 4
    served = [visit.metadata.get("x-ninelives-priority") for visit in server.backend.visits]
    assert served == [None, "critical", "high", "normal", "background"]


def test_tenants_are_served_in_turns(shop: Any, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0, fair_by="metadata:x-tenant"))
    server = shop(stack)
    server.busy()
    calls = []
    for number, tenant in enumerate(("noisy", "noisy", "noisy", "modest"), 1):
        calls.append(server.start(metadata=(("x-tenant", tenant),)))
        wait_for(stack, number)

    server.backend.release()

    assert [seen(call, UNARY).code for call in calls] == [StatusCode.OK] * 4
    served = [visit.metadata.get("x-tenant") for visit in server.backend.visits[1:]]
    assert served == ["noisy", "modest", "noisy", "noisy"]


def test_callers_are_told_apart_by_their_address(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    seen_keys = []

    def key(call: Call) -> str:
        assert call.peer is not None
        seen_keys.append(call.peer().partition(":")[0])
        return ""

    stack = new_stack(AdmissionQueue(default_wait=60.0, fair_by=key))
    server = shop(stack)
    server.busy()
    call = server.start()
    wait_for(stack, 1)

    server.backend.release()

    assert seen(call, UNARY).code is StatusCode.OK
    assert seen_keys == ["ipv4"]


def test_a_function_that_finds_no_key_fails_the_call_and_costs_no_place(
    shop: Any, new_stack: Callable[..., Stack], caplog: pytest.LogCaptureFixture
) -> None:
    def key(_: Call) -> str:
        raise ValueError

    stack = new_stack(AdmissionQueue(fair_by=key))
    server = shop(stack)
    stalled = server.busy()

    assert seen(server.start(), UNARY).code is StatusCode.UNKNOWN
    server.backend.release()
    assert seen(stalled[0], UNARY).code is StatusCode.OK
    assert "Exception calling application" in caplog.text


def test_a_call_for_which_no_key_is_found_ends_also_after_the_executor(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    def key(_: Call) -> str:
        raise ValueError

    stack = new_stack(AdmissionQueue(max_queue=0, fair_by=key))
    server = shop(stack)
    (runs,) = server.busy()
    server.pool.shutdown(wait=False)

    for _ in range(2):
        gate_of(stack).parameter("width").set(1)
        assert seen(server.start(timeout=PATIENCE), UNARY).code is StatusCode.UNAVAILABLE
    server.backend.release()
    assert seen(runs, UNARY).code is StatusCode.OK


def test_health_is_answered_while_every_worker_is_busy(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    server.busy()
    waits = server.start()
    wait_for(stack, 1)

    request = health_pb2.HealthCheckRequest()
    answer = health_pb2_grpc.HealthStub(server.channel).Check(request, timeout=PATIENCE)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert not waits.done()


def test_a_stream_holds_its_worker_to_the_end_and_took_what_its_first_message_did(
    shop: Any, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    backend.plays(STALL)
    stream = server.start(RpcKind.UNARY_STREAM)
    backend.wait_until_stalled()
    waits = server.start()
    wait_for(stack, 1)

    assert gate_of(stack).in_flight == 1
    stream.cancel()

    assert seen(waits, UNARY).code is StatusCode.OK


def test_a_rate_limit_before_the_queue_refuses_and_the_place_is_free_again(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(RateLimit(0.01, scope=lambda _: "all") + AdmissionQueue())
    server = shop(stack)

    codes = [seen(server.start(), UNARY).code for _ in range(3)]

    assert codes == [StatusCode.OK] + [StatusCode.RESOURCE_EXHAUSTED] * 2
    leaks.eventually(lambda: gate_of(stack).in_flight == 0, str)
    assert server.backend.attempts == 1


def test_a_call_that_is_refused_is_answered_by_the_other_side_of_a_fallback(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(max_queue=0) | Respond(b"instead"))
    server = shop(stack)
    server.busy()

    assert seen(server.start(), UNARY).messages == [b"instead"]
    assert server.backend.attempts == 1


def test_the_limits_of_the_stack_shorten_the_wait(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(Timeout(0.1) + AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    server.busy()

    answer = seen(server.start(), UNARY)

    assert answer.code is StatusCode.RESOURCE_EXHAUSTED
    assert server.backend.attempts == 1


def test_calls_that_a_handler_makes_through_the_same_stack_have_places_of_their_own(
    new_stack: Callable[..., Stack], opened: ExitStack, backend: Backend
) -> None:
    stack = new_stack(AdmissionQueue())
    seen_in_flight = []

    def handler(request: bytes, _: Any) -> bytes:
        stack.call(lambda: seen_in_flight.append(gate_of(stack).in_flight))
        return request

    server = Shop(stack, backend, opened, AdmissionExecutor(2))
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(handler)}
    server.server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Nested", handlers),)
    )
    assert server.channel.unary_unary("/test.Nested/Do")(b"x", timeout=PATIENCE) == b"x"

    assert seen_in_flight == [2]


def test_a_handler_with_a_pool_of_its_own_waits_there(
    new_stack: Callable[..., Stack], opened: ExitStack, backend: Backend
) -> None:
    stack = new_stack(AdmissionQueue())
    own = ThreadPoolExecutor(1, thread_name_prefix="test-own")
    opened.callback(own.shutdown)
    names = []

    def handler(request: bytes, _: Any) -> bytes:
        names.append(threading.current_thread().name)
        return request

    handler.experimental_thread_pool = own  # type: ignore[attr-defined]
    server = Shop(stack, backend, opened, AdmissionExecutor(1))
    handlers = {"Do": grpc.unary_unary_rpc_method_handler(handler)}
    server.server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Own", handlers),)
    )

    assert server.channel.unary_unary("/test.Own/Do")(b"x", timeout=PATIENCE) == b"x"
    assert names == ["test-own_0"]


def test_fewer_run_when_the_width_shrinks_and_more_when_it_grows_again(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack, 2)
    server.busy(1)
    gate_of(stack).parameter("width").set(1)
    waits = server.start()
    wait_for(stack, 1)

    gate_of(stack).parameter("width").set(2)

    assert seen(waits, UNARY).code is StatusCode.OK


def test_a_plain_pool_does_too_but_the_linter_knows_better(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(1, default_wait=60.0))
    server = shop(stack, pool=ThreadPoolExecutor(4, thread_name_prefix="test-server"))
    server.busy()
    waits = server.start()
    wait_for(stack, 1)

    found = [finding.rule for finding in stack.lint()]
    server.backend.release()

    assert found == ["queue-without-executor"]
    assert seen(waits, UNARY).code is StatusCode.OK


def test_the_linter_is_content_with_the_executor_unless_the_width_is_more_than_it_has(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    server = shop(stack)
    assert seen(server.start(), UNARY).code is StatusCode.OK
    content = stack.lint()

    gate_of(stack).parameter("width").set(2)

    assert content == []
    assert [finding.rule for finding in stack.lint()] == ["width-over-workers"]


def test_the_linter_tells_that_servers_with_one_queue_should_have_one_executor(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(AdmissionQueue())
    with AdmissionExecutor(1) as one:
        assert arrive(one, stack, lambda: 1).result(PATIENCE)
        content = stack.lint()
        with AdmissionExecutor(1) as other:
            assert arrive(other, stack, lambda: 1).result(PATIENCE)
            found = [finding.rule for finding in stack.lint()]
        assert stack.lint() == content == []

    assert found == ["queue-of-several-executors"]


def test_who_waits_in_a_pool_is_seen_by_a_sensor_of_it(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    go_on = threading.Event()
    with AdmissionExecutor(1) as pool:
        calls = [arrive(pool, stack, lambda: go_on.wait(PATIENCE)) for _ in range(4)]
        pressure = PoolQueue(pool, per_thread=4.0).read()
        go_on.set()

    assert all(call.result(PATIENCE) for call in calls)
    assert pressure is not None
    # The one that runs may not have been taken up yet.
    assert pressure >= 0.75


def test_calls_that_wait_are_refused_when_the_executor_ends(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    (runs,) = server.busy()
    waiting = [server.start() for _ in range(3)]
    wait_for(stack, 3)

    ended = threading.Thread(target=server.pool.shutdown)
    ended.start()
    answers = [seen(call, UNARY) for call in waiting]
    after = seen(server.start(), UNARY)
    server.backend.release()
    ended.join(PATIENCE)

    assert {answer.code for answer in answers} == {StatusCode.UNAVAILABLE}
    assert "the server shuts down" in answers[0].details
    assert after.code is StatusCode.UNAVAILABLE
    assert seen(runs, UNARY).code is StatusCode.OK
    assert server.backend.attempts == 1
    assert gate_of(stack).workers == 0


def test_a_server_that_stops_ends_the_calls_that_wait(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    server = shop(stack)
    server.busy()
    waiting = [server.start() for _ in range(3)]
    wait_for(stack, 3)

    stopped = server.server.stop(None)
    server.backend.release()

    assert stopped.wait(PATIENCE)
    assert all(seen(call, UNARY).code is not StatusCode.OK for call in waiting)
    server.pool.shutdown()
    assert leaks.held(stack) == {}


def test_several_stacks_have_queues_of_their_own(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    reads, writes = new_stack(AdmissionQueue(1, max_queue=0)), new_stack(AdmissionQueue(1))
    routes = {"test.Scripted/unary_unary": reads, "test.Scripted/stream_unary": writes}
    server = shop(Routes(routes), 2)
    server.busy()

    refused = seen(server.start(), UNARY)
    served = seen(server.start(RpcKind.STREAM_UNARY), RpcKind.STREAM_UNARY)

    assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    assert served.code is StatusCode.OK


def test_a_bulkhead_inside_refuses_and_teaches_nothing(
    shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue() + Bulkhead(1))
    server = shop(stack, 2)
    server.busy()

    answer = seen(server.start(), UNARY)

    assert "bulkhead" in answer.details
    assert gate_of(stack).state(0.0)["service_time"] == 0.0


@pytest.mark.parametrize("wait", [60.0, 0.05], ids=["served", "thrown out"])
def test_a_call_that_has_waited_leaves_nothing_for_the_garbage_collector(
    wait: float, shop: Any, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=wait))
    server = shop(stack)
    gc.collect()
    gc.disable()
    try:
        server.busy()
        calls = [server.start() for _ in range(3)]
        if wait > 1.0:
            wait_for(stack, 3)
            server.backend.release()
        for call in calls:
            call.code()
        server.backend.release()
        leaks.eventually(lambda: not jobs(), jobs)
    finally:
        gc.enable()


def jobs() -> list[object]:
    """Return the calls that an executor has to do with."""
    return [each for each in gc.get_objects() if type(each) is Job]


def arrive(pool: AdmissionExecutor, stack: Stack, work: Callable[[], object]) -> Future[Any]:
    """Hand an executor a call as gRPC's server does."""
    entrance = entrance_of(stack, Method("test.Scripted/unary_unary"), streams=False)
    context = Context()
    context.run(ARRIVAL.set, (entrance, ()))
    return pool.submit(context.run, work)


def test_a_future_that_is_cancelled_while_it_waits_leaves_the_line(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    go_on, ran = threading.Event(), []

    with AdmissionExecutor(1) as pool:
        runs = arrive(pool, stack, lambda: go_on.wait(PATIENCE))
        cancelled = arrive(pool, stack, lambda: ran.append("no"))
        waits = arrive(pool, stack, lambda: "yes")
        assert gate_of(stack).state(0.0)["queued"] == 2

        assert cancelled.cancel()

        assert gate_of(stack).state(0.0)["queued"] == 1
        go_on.set()
        assert waits.result(PATIENCE) == "yes"
        assert runs.result(PATIENCE)
    assert ran == []


def test_what_is_cancelled_at_the_end_never_runs_and_gives_its_place_back(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0))
    go_on = threading.Event()
    pool = AdmissionExecutor(1)
    runs, waits = (arrive(pool, stack, lambda: go_on.wait(PATIENCE)) for _ in range(2))

    pool.shutdown(wait=False, cancel_futures=True)
    go_on.set()

    assert waits.cancelled()
    assert runs.result(PATIENCE)
    pool.shutdown()


def test_a_call_whose_turn_comes_while_others_are_cancelled_at_the_end_runs(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(AdmissionQueue(1, default_wait=60.0))
    go_on = threading.Event()
    pool = AdmissionExecutor(3)
    runs, *waiting = (arrive(pool, stack, lambda: go_on.wait(PATIENCE)) for _ in range(3))
    for each in waiting:
        each.add_done_callback(lambda _: gate_of(stack).parameter("width").set(3))

    pool.shutdown(wait=False, cancel_futures=True)
    go_on.set()

    assert sorted(each.cancelled() for each in waiting) == [False, True]
    assert runs.result(PATIENCE)
    pool.shutdown()
    assert leaks.held(stack) == {}


def test_a_refusal_after_the_end_can_not_be_cancelled_while_it_is_told(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(AdmissionQueue())
    go_on = threading.Event()
    pool = AdmissionExecutor(1)
    pool.shutdown()

    late = arrive(pool, stack, lambda: go_on.wait(PATIENCE))

    assert not late.cancel()
    go_on.set()
    assert late.result(PATIENCE)


def test_hundreds_of_calls_wait_when_nobody_can_start_them_and_each_is_told(
    new_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stack = new_stack(AdmissionQueue(default_wait=60.0, over_after=60.0))
    go_on = threading.Event()
    pool = AdmissionExecutor(1)
    runs = arrive(pool, stack, lambda: go_on.wait(PATIENCE))
    waiting = [arrive(pool, stack, lambda: "told") for _ in range(300)]

    def interpreter_ends(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interpreter_ends)
    go_on.set()

    assert runs.result(PATIENCE)
    assert {each.result(PATIENCE) for each in waiting} == {"told"}
    assert caplog.text == ""
    pool.shutdown()
    assert leaks.held(stack) == {}


def test_servers_that_share_an_executor_count_its_workers_once(
    new_stack: Callable[..., Stack],
) -> None:
    class Together(set[Any]):
        """Gates that two threads ask for at the same time."""

        def __init__(self) -> None:
            super().__init__()
            self.first_two = threading.Semaphore(2)
            self.met = threading.Barrier(2)

        def __contains__(self, gate: object) -> bool:
            found = super().__contains__(gate)
            if self.first_two.acquire(blocking=False):
                self.met.wait(PATIENCE)
            return found

    stack = new_stack(AdmissionQueue())
    with AdmissionExecutor(3) as pool:
        pool._gates = Together()
        servers = [
            threading.Thread(target=arrive, args=(pool, stack, threading.Event)) for _ in range(2)
        ]
        for server in servers:
            server.start()
        for server in servers:
            server.join(PATIENCE)

        assert gate_of(stack).workers == 3
    assert gate_of(stack).workers == 0


def test_a_call_that_fails_gives_its_place_back(
    shop: Any, backend: Backend, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack(AdmissionQueue())
    backend.plays(DOWN, ANSWER)
    server = shop(stack)

    assert [seen(server.start(), UNARY).code for _ in range(2)] == [
        StatusCode.UNAVAILABLE,
        StatusCode.OK,
    ]


def test_functions_run_as_in_any_pool() -> None:
    with AdmissionExecutor(2, thread_name_prefix="test-pool") as pool:
        assert pool.submit(divmod, 7, 3).result(PATIENCE) == (2, 1)
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
        failing = pool.submit(lambda: 1 // 0)
        assert isinstance(failing.exception(PATIENCE), ZeroDivisionError)

    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)


def test_a_pool_without_workers_is_none() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        AdmissionExecutor(0)


def test_a_pool_starts_afresh_in_a_forked_child() -> None:
    pool = AdmissionExecutor(1, thread_name_prefix="test-pool")
    go_on = threading.Event()
    blocked: Future[bool] = pool.submit(go_on.wait, PATIENCE)
    parents = pool._others

    pool.start_afresh()

    assert pool.submit(abs, -1).result(PATIENCE) == 1
    pool.shutdown()
    go_on.set()
    assert blocked.result(PATIENCE)
    parents.shutdown()
