"""A call keeps its class and level on its way from server to server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, Retry, prioritize

from . import leaks
from .backend import ANSWER, DOWN, STALL, Backend, RpcKind
from .clients import PROTECTED, Style, SyncClient
from .relay import relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import Client, LoopThread
    from .servers import Server, SyncServer

CLASS, LEVEL = "x-ninelives-priority", "x-ninelives-level"
every_server = pytest.mark.parametrize(
    "protected", ["sync", "aio", "aio-reader-writer", "aio-plain"]
)
relayed_kinds = pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.UNARY_STREAM])


@every_server
@relayed_kinds
@pytest.mark.parametrize("request_", [b"a", b"shielded"])
def test_calls_made_by_a_handler_have_the_rank_of_the_call_it_serves(
    protected: str,
    kind: RpcKind,
    request_: bytes,
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    server = relay(protected, target, new_stack(Bulkhead(8)), new_stack(Retry()), loop, opened)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))
    style = SyncClient.styles(kind)[-1]

    client.start(kind, style, [request_], metadata=[(CLASS, "low"), (LEVEL, "7")]).result()
    client.start(kind, style, [request_]).result()

    half = len(backend.visits) // 2
    said = [(visit.metadata.get(CLASS), visit.metadata.get(LEVEL)) for visit in backend.visits]
    assert said == [("low", "7")] * half + [(None, None)] * half


@every_server
def test_level_that_a_server_has_given_is_kept_by_the_calls_of_its_handler(
    protected: str,
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
    loop: LoopThread,
    opened: ExitStack,
) -> None:
    own = new_stack(Bulkhead(8, order="priority"))
    server = relay(protected, target, own, new_stack(Retry()), loop, opened)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))
    kind = RpcKind.UNARY_STREAM

    running = client.start(kind, Style.ITERATE, metadata=[(CLASS, "high")]).result()

    assert running.error is None
    first, second = ({visit.metadata[CLASS], visit.metadata[LEVEL]} for visit in backend.visits)
    assert first == second
    assert "high" in first


@pytest.mark.parametrize("protected", PROTECTED)
@pytest.mark.parametrize("kind", RpcKind)
def test_client_says_its_rank_with_every_attempt(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    loop: LoopThread,
) -> None:
    del loop
    stack = new_stack(Retry(initial_backoff=0.001) + Bulkhead(8, order="priority"))
    client = connect(protected, stack)
    backend.plays(DOWN)

    running = client.start(kind, client.styles(kind)[0], metadata=[(CLASS, "low"), ("k", "v")])

    assert running.result().error is None
    said = [(visit.metadata[CLASS], visit.metadata[LEVEL]) for visit in backend.visits]
    assert len(said) == 2
    assert len(set(said)) == 1
    assert said[0][0] == "low"
    assert all(visit.metadata["k"] == "v" for visit in backend.visits)


def test_prioritized_call_overtakes_the_others_in_a_queue(
    new_stack: Callable[..., Stack],
    serve: Callable[..., SyncServer],
    opened: ExitStack,
    wrapped: Callable[..., grpc.Channel],
) -> None:
    backend = Backend(STALL)
    own = new_stack(Bulkhead(1, max_queue=1, max_wait=60.0, order="priority"))
    server = serve("sync", backend, own)
    opened.callback(backend.release)
    channel = wrapped(new_stack(Bulkhead(8)), server.target)
    call: Any = channel.unary_unary(RpcKind.UNARY_UNARY.path)
    first = call.future(b"first")
    backend.wait_until_stalled()
    with prioritize("low"):
        minor = call.future(b"minor")
    _wait_for_queue(own, 1)

    with prioritize("critical"):
        major = call.future(b"major")

    assert minor.code() is StatusCode.RESOURCE_EXHAUSTED
    backend.release()
    assert [first.result(), major.result()] == [b"first", b"major"]


def _wait_for_queue(stack: Stack, length: int) -> None:
    leaks.eventually(
        lambda: stack.policy("bulkhead").state(stack.clock.now())["queued"] == length, str
    )


@pytest.mark.parametrize("nature", ["sync", "aio"])
def test_a_tenant_that_has_had_little_comes_before_one_that_has_had_much(
    nature: str,
    serve: Callable[..., Server],
    new_stack: Callable[..., Stack],
    backend: Backend,
    opened: ExitStack,
) -> None:
    queue: dict[str, Any] = {"max_queue": 4, "max_wait": 20.0, "order": "priority"}
    stack = new_stack(Bulkhead(1, fair_by="metadata:tenant", **queue))
    server = serve(nature, backend, stack)
    client = SyncClient(opened.enter_context(grpc.insecure_channel(server.target)))
    backend.plays(ANSWER, STALL)

    def ask(tenant: str) -> Any:
        return client.start(RpcKind.UNARY_UNARY, Style.CALL, [b"a"], metadata=[("tenant", tenant)])

    assert ask("loud").result().error is None
    calls = [ask("loud")]
    backend.wait_until_stalled()
    for number, tenant in enumerate(["loud", "loud", "quiet"], 1):
        calls.append(ask(tenant))
        leaks.eventually(lambda number=number: _queued(stack) == number, str)
    backend.release()
    for call in calls:
        assert call.result().error is None

    served = [visit.metadata["tenant"] for visit in backend.visits]
    assert served == ["loud", "loud", "quiet", "loud", "loud"]


def _queued(stack: Stack) -> object:
    return stack.policy_state("bulkhead").values["queued"]
