"""Request iterators of a protected sync call are used as those of a bare one."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from grpc.experimental import ChannelOptions, UsageError

from . import leaks, pairs
from .backend import PATIENCE, Backend, Play, RpcKind, expected, fail
from .clients import REQUESTS
from .pairs import (
    every_way,
    in_every_style,
    one_attempt,
    request_streams,
    stacks,
    start,
    take,
    told,
)
from .servers import SyncServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

SINGLE_THREADED = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
TENANT = contextvars.ContextVar("TENANT", default="nobody")
channels = pytest.fixture(pairs.connect)


def _echo(requests: Any, _: Any) -> Iterator[bytes]:
    yield from requests


@every_way
@request_streams
@stacks
def test_iterator_runs_in_the_context_of_the_call(kind: RpcKind, channels: Any) -> None:
    seen: list[str] = []

    def requests() -> Iterator[bytes]:
        for request in REQUESTS:
            seen.append(TENANT.get())
            yield request

    token = TENANT.set("mine")
    answers = [in_every_style(channel, kind, requests) for channel in channels()]
    TENANT.reset(token)

    assert answers[1] == answers[0]
    assert set(seen) == {"mine"}


@every_way
@request_streams
@stacks
def test_iterator_runs_in_another_thread_than_the_caller(kind: RpcKind, channels: Any) -> None:
    threads: set[threading.Thread] = set()

    def requests() -> Iterator[bytes]:
        threads.add(threading.current_thread())
        yield from REQUESTS

    answers = [in_every_style(channel, kind, requests) for channel in channels()]

    assert answers[1] == answers[0]
    assert threading.current_thread() not in threads


@every_way
@request_streams
@stacks
def test_iterator_is_closed_when_its_call_is_over_and_dropped(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.plays(Play(reads=1))
        go_on, closed = threading.Event(), threading.Event()

        def requests(go_on: Any = go_on, closed: Any = closed) -> Iterator[bytes]:
            try:
                yield b"a"
                assert go_on.wait(PATIENCE)
                yield b"b"
                yield b"c"
            finally:
                closed.set()

        assert take(start(channel, kind, requests()), kind)
        go_on.set()

        assert closed.wait(PATIENCE)


@every_way
@stacks
def test_requests_may_follow_the_responses(channels: Any, opened: ExitStack) -> None:
    handler: Any = grpc.stream_stream_rpc_method_handler(_echo)
    server = SyncServer(
        grpc.method_handlers_generic_handler("test.Scripted", {"stream_stream": handler})
    )
    opened.callback(server.close)
    for channel in channels(server.target):
        came = threading.Semaphore(1)

        def requests(came: Any = came) -> Iterator[bytes]:
            for number in range(20):
                assert came.acquire(timeout=PATIENCE)
                yield b"%d" % number

        answers = []
        for message in start(channel, RpcKind.STREAM_STREAM, requests()):
            answers.append(message)
            came.release()

        assert answers == [b"%d" % number for number in range(20)]


@every_way
@stacks
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
def test_single_threaded_stream_is_taken_to_its_end(
    code: StatusCode, channels: Any, backend: Backend
) -> None:
    stories = []
    kind = RpcKind.UNARY_STREAM
    for channel in channels(options=SINGLE_THREADED):
        play = Play(initial=(("x", "1"),), code=code, details="so", trailing=(("y", "2"),))
        backend.plays(play, play)
        heard: list[Any] = []
        call = start(channel, kind)
        call.add_done_callback(heard.append)
        story = [pairs.metadata_told(call.initial_metadata()), next(call), next(call)]
        story += [call.done(), call.running(), call.is_active(), call.cancelled()]
        story += [told(list, call) for _ in range(2)]
        story += [call.code(), call.details(), pairs.metadata_told(call.trailing_metadata())]
        story += [told(call.result), call.done(), call.cancel(), told(start(channel, kind).cancel)]
        assert heard == [call]
        stories.append(story)

    assert stories[1] == stories[0]
    assert stories[0][1:3] == expected(kind, REQUESTS, 2)


@every_way
@stacks
@pytest.mark.parametrize("read", [0, 1])
def test_single_threaded_stream_is_cancelled(read: int, channels: Any, backend: Backend) -> None:
    stories = []
    for channel in channels(options=SINGLE_THREADED):
        backend.visits.clear()
        backend.plays(Play(messages=1, stalls=True))
        call = start(channel, RpcKind.UNARY_STREAM)
        story: list[Any] = [next(call) for _ in range(read)]
        backend.wait_until_stalled()
        story += [call.cancel(), call.cancel(), call.code(), call.details(), call.cancelled()]
        story.append(told(next, call))
        stories.append(story)
        backend.wait_until_gone()
        # gRPC reports the end only to who reads on, and the error's traceback refers to the call.
        del call
        leaks.collect()

    assert stories[1] == stories[0]
    assert stories[0][read + 2] is StatusCode.CANCELLED


@every_way
@one_attempt
def test_single_threaded_stream_that_runs_refuses_to_wait(channels: Any, backend: Backend) -> None:
    stories = []
    for channel in channels(options=SINGLE_THREADED):
        backend.plays(fail(StatusCode.NOT_FOUND))
        call = start(channel, RpcKind.UNARY_STREAM)
        asked = (call.code, call.details, call.result, call.exception, call.trailing_metadata)
        stories.append([told(ask) for ask in asked])
        call.cancel()

    assert stories[1] == stories[0]
    assert {each[0] for each in stories[0]} == {UsageError}
