"""A fault looks to clients and servers as it would from a bad backend or handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Fault, Retry, Stack
from ninelives_grpc.errors import InjectedError
from ninelives_grpc.sinks import Sink

from . import clients, leaks, servers
from .backend import Backend, Play, RpcKind, expected
from .clients import REQUESTS, AioClient, Style, SyncClient
from .session import CLIENT, SERVER, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from .servers import Server

every_kind = pytest.mark.parametrize("kind", RpcKind)
WAYS = [
    (name, kind, style)
    for name in clients.PROTECTED
    for kind in RpcKind
    for style in (SyncClient if name.startswith("sync") else AioClient).styles(kind)
]
every_way = pytest.mark.parametrize(("protected", "kind", "style"), WAYS)


@every_way
@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_client_sees_the_code_and_nothing_leaves(
    protected: str,
    kind: RpcKind,
    style: Style,
    delay: float,
    backend: Backend,
    connect: Callable[..., Any],
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(
        CircuitBreaker() + Bulkhead(8) + Fault(share=1.0, delay=delay, code="DATA_LOSS")
    )

    running = connect(protected, stack).start(kind, style).result()

    assert (running.code, running.details) == (StatusCode.DATA_LOSS, "injected")
    assert isinstance(running.error, InjectedError)
    assert protected.startswith("sync") or isinstance(running.error, grpc.aio.AioRpcError)
    assert backend.attempts == 0
    assert leaks.results(stack) == {("DATA_LOSS", "failure"): 1}


@every_way
def test_client_repeats_what_a_fault_has_failed(
    protected: str,
    kind: RpcKind,
    style: Style,
    backend: Backend,
    connect: Callable[..., Any],
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(Bulkhead(8) + Retry(3, initial_backoff=0.001) + Fault(share=1.0))
    stack.emitter.attach(_SwitchOff(stack))
    client = connect(protected, stack)
    session = Session(CLIENT, kind, style, client, backend, stack, cut=lambda: None)

    session.answers(session.call())

    assert backend.attempts == 1
    assert stack.emitter.counts["retry", "RetryAttempt"] == 1


class _SwitchOff(Sink):
    """Switches the fault off as soon as it has hit a call."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def emit(self, event: Any) -> None:
        if event.name == "FaultInjected":
            self._stack.parameters["fault/share"].set(0.0)


@every_kind
@pytest.mark.parametrize("delay", [0.0, 0.02])
@pytest.mark.parametrize("protected", servers.PROTECTED)
def test_server_answers_with_the_code_and_asks_no_handler(
    protected: str,
    kind: RpcKind,
    delay: float,
    serve: Callable[..., Server],
    new_stack: Callable[..., Stack],
    opened: Any,
) -> None:
    backend = Backend()
    stack = new_stack(Bulkhead(8) + CircuitBreaker() + Fault(share=1.0, delay=delay))
    server = serve(protected, backend, stack)
    client = SyncClient(grpc.insecure_channel(server.target))
    opened.callback(client.close)
    session = Session(
        SERVER, kind, SyncClient.styles(kind)[-1], client, backend, stack, cut=lambda: None
    )

    running = session.call()
    stack.parameters["fault/share"].set(0.0)

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "injected")
    assert backend.attempts == 0
    leaks.eventually(lambda: leaks.counted(stack) == 1, str)
    assert leaks.results(stack) == {("UNAVAILABLE", "failure"): 1}
    session.answers(session.call())


@every_kind
def test_delayed_call_ends_at_its_deadline(
    kind: RpcKind,
    backend: Backend,
    connect: Callable[..., Any],
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(Bulkhead(8) + Fault(share=1.0, delay=60.0, code=None))

    for protected in clients.PROTECTED:
        client = connect(protected, stack)
        style = client.styles(kind)[0]
        running = client.start(kind, style, timeout=0.05).result()
        assert running.code is StatusCode.DEADLINE_EXCEEDED

    assert backend.attempts == 0


RESPONSE_STREAMS = [way for way in WAYS if way[1].streams_responses]


@pytest.mark.parametrize(("protected", "kind", "style"), RESPONSE_STREAMS)
@pytest.mark.parametrize("repeats", [False, True], ids=["once", "retry"])
def test_client_sees_a_stream_fail_half_way(
    protected: str,
    kind: RpcKind,
    style: Style,
    repeats: bool,
    backend: Backend,
    connect: Callable[..., Any],
    new_stack: Callable[..., Stack],
) -> None:
    fault = Fault(share=1.0, after=2)
    policies = Bulkhead(8) + (Retry() + CircuitBreaker() if repeats else CircuitBreaker()) + fault
    stack = new_stack(policies)
    backend.plays(Play(messages=2, stalls=True))

    running = connect(protected, stack).start(kind, style).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "injected")
    assert isinstance(running.error, InjectedError)
    assert running.messages == expected(kind, REQUESTS, 2)
    backend.wait_until_gone()
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("UNAVAILABLE", "failure"): 1}
    assert stack.policy("fault").state(stack.clock.now())["injected"] == 1
    assert backend.attempts == 1


@every_way
def test_client_whose_calls_are_shorter_sees_nothing_of_a_cut(
    protected: str,
    kind: RpcKind,
    style: Style,
    connect: Callable[..., Any],
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(Bulkhead(8) + Fault(share=1.0, after=4))

    running = connect(protected, stack).start(kind, style).result()

    assert running.messages == expected(kind, REQUESTS)
    assert running.error is None
    assert stack.policy("fault").state(stack.clock.now())["injected"] == 0


@pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])
@pytest.mark.parametrize("protected", servers.PROTECTED)
def test_server_fails_a_stream_half_way(
    protected: str,
    kind: RpcKind,
    serve: Callable[..., Server],
    new_stack: Callable[..., Stack],
    opened: Any,
) -> None:
    backend = Backend()
    stack = new_stack(Bulkhead(8) + CircuitBreaker() + Fault(share=1.0, after=2, code="ABORTED"))
    server = serve(protected, backend, stack)
    client = SyncClient(grpc.insecure_channel(server.target))
    opened.callback(client.close)

    running = client.start(kind, Style.ITERATE).result()

    assert (running.code, running.details) == (StatusCode.ABORTED, "injected")
    assert running.messages == expected(kind, REQUESTS, 2)
    backend.wait_until_ended()
    leaks.eventually(lambda: leaks.counted(stack), str)
    assert leaks.results(stack) == {("ABORTED", "ignored"): 1}
