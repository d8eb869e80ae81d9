"""Request streams: asked once, only as far as needed, and nothing of them is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, RetryBudget, wrap_channel

from .backend import ANSWER, DOWN, PATIENCE, Backend, Play, RpcKind, expected
from .clients import PROTECTED, REQUESTS, Style, SyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ninelives_grpc import Stack

    from .clients import Client

AT_ONCE: dict[str, Any] = {"initial_backoff": 0.0, "jitter": "none"}
request_streams = pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
sync_clients = pytest.mark.parametrize("protected", ["sync-wrap", "sync-interceptor"])
every_client = pytest.mark.parametrize("protected", PROTECTED)
stacks = pytest.mark.parametrize(
    "policies",
    [
        pytest.param(lambda: Bulkhead(8) + CircuitBreaker(), id="one-attempt"),
        pytest.param(lambda: Bulkhead(8) + Retry(3, **AT_ONCE, idempotent=True), id="retry"),
    ],
)


def _once(items: list[bytes], then: Callable[[], Any]) -> Iterator[bytes]:
    yield from items
    then()


def _raise() -> None:
    msg = "no more requests"
    raise ValueError(msg)


@sync_clients
@request_streams
@stacks
def test_sync_iterator_that_raises_ends_the_call_as_on_a_bare_channel(
    protected: str,
    kind: RpcKind,
    policies: Callable[[], Any],
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
    target: str,
) -> None:
    with grpc.insecure_channel(target) as channel:
        bare = SyncClient(channel)
        style = bare.styles(kind)[-1]
        plain = bare.start(kind, style, _once([b"a"], _raise)).result()
    protected_client = connect(protected, new_stack(policies()))

    running = protected_client.start(kind, style, _once([b"a"], _raise)).result()

    assert (running.code, running.details) == (plain.code, plain.details)
    assert running.code is StatusCode.UNKNOWN
    assert backend.attempts <= 2


@pytest.mark.parametrize("protected", ["aio-wrap", "aio-interceptor"])
@request_streams
@stacks
def test_asyncio_iterator_that_raises_cancels_the_call_as_on_a_bare_channel(
    protected: str,
    kind: RpcKind,
    policies: Callable[[], Any],
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(policies()))

    running = client.start(kind, Style.ITERATE, _once([b"a"], _raise)).result()

    assert isinstance(running.error, asyncio.CancelledError)
    backend.wait_for(lambda: all(visit.ended for visit in backend.visits))
    assert backend.attempts <= 1


@every_client
@request_streams
@stacks
def test_requests_are_taken_only_as_far_as_they_are_sent(
    protected: str,
    kind: RpcKind,
    policies: Callable[[], Any],
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100_000

    client = connect(protected, new_stack(policies()))
    backend.plays(Play(reads=3))

    client.start(
        kind, Style.ITERATE if kind.streams_responses else client.styles(kind)[0], endless()
    ).result()

    # What fits the flow control window of the connection, which grows, and not without end.
    assert taken < 300


@sync_clients
@request_streams
def test_iterator_that_blocks_while_the_call_fails_loses_no_message(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    go_on, stuck = threading.Event(), threading.Event()

    def blocking() -> Iterator[bytes]:
        yield b"a"
        stuck.set()
        assert go_on.wait(PATIENCE)
        yield b"b"
        yield b"c"

    client = connect(protected, new_stack(Retry(3, **AT_ONCE)))
    backend.plays(Play(reads=1, messages=0, code=StatusCode.UNAVAILABLE), ANSWER)
    running = client.start(kind, client.styles(kind)[-1], blocking())
    assert stuck.wait(PATIENCE)
    backend.wait_for(lambda: backend.attempts == 2 and backend.visits[1].requests == [b"a"])

    go_on.set()

    assert running.result().messages == expected(kind, REQUESTS)
    assert backend.visits[1].requests == [b"a", b"b", b"c"]


@pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
async def test_asyncio_iterator_that_waits_while_the_call_fails_loses_no_message(
    kind: RpcKind, target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await go_on.wait()
        yield b"b"
        yield b"c"

    stack = new_stack(Retry(3, **AT_ONCE))
    backend.plays(Play(reads=1, messages=0, code=StatusCode.UNAVAILABLE), ANSWER)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = getattr(channel, kind)(kind.path)(slow())
        await asyncio.to_thread(
            backend.wait_for,
            lambda: backend.attempts == 2 and backend.visits[1].requests == [b"a"],
        )

        go_on.set()

        messages = [m async for m in call] if kind.streams_responses else [await call]
        assert messages == expected(kind, REQUESTS)


@every_client
@request_streams
def test_requests_arrive_in_order_on_the_attempt_that_succeeds(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    retry = Retry(4, **AT_ONCE, budget=RetryBudget(cost=0.0))
    client = connect(protected, new_stack(retry))
    requests = [b"%d" % number for number in range(200)]
    for style in client.styles(kind):
        backend.plays(
            Play(reads=50, messages=0, code=StatusCode.UNAVAILABLE),
            Play(reads=100, messages=0, code=StatusCode.UNAVAILABLE),
            DOWN,
            ANSWER,
        )

        running = client.start(kind, style, iter(requests)).result()

        assert running.error is None
        assert backend.visits[-1].requests == requests


@sync_clients
@request_streams
def test_call_that_ends_before_its_requests_takes_no_more_than_the_one_it_waits_for(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    go_on = threading.Event()
    taken: list[int] = []
    readers: list[threading.Thread] = []

    def two() -> Iterator[bytes]:
        readers.append(threading.current_thread())
        taken.append(1)
        yield b"a"
        assert go_on.wait(PATIENCE)
        taken.append(2)
        yield b"b"
        taken.append(3)

    client = connect(protected, new_stack(Retry(3, **AT_ONCE)))
    backend.plays(Play(reads=1, messages=0, code=StatusCode.NOT_FOUND))

    running = client.start(kind, client.styles(kind)[-1], two()).result()
    go_on.set()

    assert running.code is StatusCode.NOT_FOUND
    readers[0].join(PATIENCE)
    assert taken in ([1], [1, 2])
