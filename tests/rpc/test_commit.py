"""What has reached the application is not asked for again, and what is not kept is not repeated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Retry, RetryBudget, wrap_channel
from ninelives_grpc.interceptors import replay
from ninelives_grpc.testing import MemorySink

from .backend import ANSWER, DOWN, Backend, Play, RpcKind, expected
from .clients import PROTECTED, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

    from .clients import Client

AT_ONCE: dict[str, Any] = {
    "initial_backoff": 0.0,
    "jitter": "none",
    "budget": RetryBudget(cost=0.0, name="unlimited"),
}
LATE = Play(initial=(("x-region", "one"),), stalls=True, messages=0, code=StatusCode.UNAVAILABLE)
every_client = pytest.mark.parametrize("protected", PROTECTED)
early_headers = pytest.mark.parametrize(
    # The headers of a unary call come with its end.
    "kind",
    [kind for kind in RpcKind if kind is not RpcKind.UNARY_UNARY],
)
request_streams = pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
response_streams = pytest.mark.parametrize("kind", [RpcKind.UNARY_STREAM, RpcKind.STREAM_STREAM])


def _requests(kind: RpcKind) -> Any:
    return iter(REQUESTS) if kind.streams_requests else REQUESTS[0]


async def _aiter(requests: list[bytes]) -> Any:
    for request in requests:
        yield request


def _aio_requests(kind: RpcKind) -> Any:
    return _aiter(REQUESTS) if kind.streams_requests else REQUESTS[0]


@early_headers
def test_headers_that_were_asked_for_commit_a_sync_call(
    kind: RpcKind,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    method = getattr(wrapped(new_stack(Retry(3, **AT_ONCE))), kind)(kind.path)
    backend.plays(LATE)
    start = method if kind.streams_responses else method.future
    call = start(_requests(kind))

    headers = dict(tuple(call.initial_metadata()))
    backend.release()

    assert headers["x-region"] == "one"
    assert call.code() is StatusCode.UNAVAILABLE
    assert backend.attempts == 1


@pytest.mark.parametrize("kind", RpcKind)
def test_headers_that_nobody_asked_for_commit_nothing_on_a_sync_call(
    kind: RpcKind,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    method = getattr(wrapped(new_stack(Retry(3, **AT_ONCE))), kind)(kind.path)
    backend.plays(LATE)
    start = method if kind.streams_responses else method.future
    call = start(_requests(kind))
    backend.wait_until_stalled()

    backend.release()

    messages = list(call) if kind.streams_responses else [call.result()]
    assert messages == expected(kind, REQUESTS)
    assert backend.attempts == 2


@early_headers
async def test_headers_that_were_asked_for_commit_an_asyncio_call(
    kind: RpcKind, target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(Retry(3, **AT_ONCE))
    backend.plays(LATE)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = getattr(channel, kind)(kind.path)(_aio_requests(kind))

        headers = await call.initial_metadata()
        backend.release()

        assert headers["x-region"] == "one"
        assert await call.code() is StatusCode.UNAVAILABLE
        assert backend.attempts == 1


@pytest.mark.parametrize("kind", RpcKind)
async def test_headers_that_nobody_asked_for_commit_nothing_on_an_asyncio_call(
    kind: RpcKind, target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(Retry(3, **AT_ONCE))
    backend.plays(LATE)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = getattr(channel, kind)(kind.path)(_aio_requests(kind))
        await asyncio.to_thread(backend.wait_until_stalled)

        backend.release()

        messages = [m async for m in call] if kind.streams_responses else [await call]
        assert messages == expected(kind, REQUESTS)
        assert backend.attempts == 2


@pytest.mark.parametrize("kind", RpcKind)
def test_failure_without_headers_is_repeated_for_who_waits_for_headers_of_a_sync_call(
    kind: RpcKind,
    wrapped: Callable[..., grpc.Channel],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    method = getattr(wrapped(new_stack(Retry(3, **AT_ONCE))), kind)(kind.path)
    start = method if kind.streams_responses else method.future
    for _ in range(20):
        backend.plays(DOWN, Play(initial=(("x-region", "two"),)))

        call = start(_requests(kind))

        assert dict(tuple(call.initial_metadata())).get("x-region", "two") == "two"
        messages = list(call) if kind.streams_responses else [call.result()]
        assert messages == expected(kind, REQUESTS)


@pytest.mark.parametrize("kind", RpcKind)
async def test_failure_without_headers_is_repeated_for_who_waits_for_headers_of_an_asyncio_call(
    kind: RpcKind, target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(Retry(3, **AT_ONCE))
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        for _ in range(20):
            backend.plays(DOWN, Play(initial=(("x-region", "two"),)))

            call = getattr(channel, kind)(kind.path)(_aio_requests(kind))

            assert dict(tuple(await call.initial_metadata())).get("x-region", "two") == "two"
            messages = [m async for m in call] if kind.streams_responses else [await call]
            assert messages == expected(kind, REQUESTS)


@every_client
@request_streams
@pytest.mark.parametrize(
    ("requests", "repeated"),
    [
        pytest.param([b"x" * 1024] * 256, True, id="just-within-bytes"),
        pytest.param([b"x" * 1024] * 257, False, id="too-many-bytes"),
        pytest.param([b"x"] * replay.MAX_MESSAGES, True, id="just-within-count"),
        pytest.param([b"x"] * (replay.MAX_MESSAGES + 1), False, id="too-many-messages"),
    ],
)
def test_request_stream_is_repeated_while_it_fits_the_replay_buffer(
    protected: str,
    kind: RpcKind,
    requests: list[bytes],
    repeated: bool,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    sink = MemorySink()
    client = connect(protected, new_stack(Retry(2, **AT_ONCE), sink=sink))
    backend.plays(DOWN, ANSWER)

    running = client.start(kind, client.styles(kind)[-1], requests).result()

    if repeated:
        assert running.error is None
        assert running.messages == expected(kind, requests)
        assert backend.attempts == 2
    else:
        assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "down")
        assert backend.attempts == 1
        assert sink.events[0].reason == "committed"
    assert backend.visits[0].requests == requests


@every_client
@response_streams
def test_stream_that_fails_before_its_first_message_is_repeated(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(2, **AT_ONCE)))
    for style in client.styles(kind):
        backend.plays(DOWN, ANSWER)

        running = client.start(kind, style).result()

        assert running.messages == expected(kind, REQUESTS)


@every_client
@response_streams
def test_first_message_that_comes_together_with_the_failure_is_not_delivered_twice(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(2, **AT_ONCE)))
    for style in client.styles(kind):
        for _ in range(20):
            backend.plays(Play(messages=1, code=StatusCode.UNAVAILABLE, details="cut"))

            running = client.start(kind, style).result()

            assert running.messages == expected(kind, REQUESTS, 1)
            assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "cut")


@every_client
@response_streams
def test_stream_without_messages_ends_well(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(2, **AT_ONCE)))
    for style in client.styles(kind):
        backend.plays(DOWN, Play(messages=0))

        running = client.start(kind, style).result()

        assert (running.error, running.messages) == (None, [])
