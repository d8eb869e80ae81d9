"""Every way to invoke a sync method works on a protected channel as on a bare one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import grpc
import pytest

from . import pairs
from .backend import PATIENCE, Backend, Play, RpcKind, expected
from .clients import REQUESTS
from .pairs import (
    every_kind,
    every_way,
    in_every_style,
    method_of,
    request_streams,
    requests_of,
    response_streams,
    stacks,
    start,
    take,
    told,
    unary_responses,
)

CROWD = 8
channels = pytest.fixture(pairs.connect)
MULTICALLABLES: dict[RpcKind, Any] = {
    RpcKind.UNARY_UNARY: grpc.UnaryUnaryMultiCallable,
    RpcKind.UNARY_STREAM: grpc.UnaryStreamMultiCallable,
    RpcKind.STREAM_UNARY: grpc.StreamUnaryMultiCallable,
    RpcKind.STREAM_STREAM: grpc.StreamStreamMultiCallable,
}


@every_way
@every_kind
@stacks
def test_objects_are_of_the_classes_that_grpc_documents(kind: RpcKind, channels: Any) -> None:
    for channel in channels():
        method = method_of(channel, kind)
        call = start(channel, kind)

        assert isinstance(channel, grpc.Channel)
        assert isinstance(method, MULTICALLABLES[kind])
        assert isinstance(call, grpc.Call)
        assert isinstance(call, grpc.Future)
        assert isinstance(call, grpc.RpcError)
        assert take(call, kind) is not None


@every_way
@every_kind
@stacks
def test_arguments_can_be_given_by_position(kind: RpcKind, channels: Any, backend: Backend) -> None:
    options = (PATIENCE, (("tenant", "a"),), None, True, grpc.Compression.Gzip)
    answers = []
    for channel in channels():
        method = getattr(channel, kind)(kind.path, None, None)
        answer = method(requests_of(kind), *options)
        answers.append([list(answer) if kind.streams_responses else answer])
        if not kind.streams_responses:
            answers[-1].append(method.with_call(requests_of(kind), *options)[0])
            answers[-1].append(method.future(requests_of(kind), *options).result())

    assert answers[1] == answers[0]
    assert answers[0][0] in (expected(kind, REQUESTS), expected(kind, REQUESTS)[0])
    assert {visit.metadata["tenant"] for visit in backend.visits} == {"a"}
    assert all(visit.remaining is not None for visit in backend.visits)


@every_way
@every_kind
@stacks
def test_methods_of_generated_stubs_are_registered(kind: RpcKind, channels: Any) -> None:
    told_of = []
    for channel in channels():
        method = method_of(
            channel,
            kind,
            request_serializer=bytes.upper,
            response_deserializer=bytes.decode,
            _registered_method=True,
        )
        told_of.append(in_every_style(channel, kind, lambda: requests_of(kind), method))

    assert told_of[1] == told_of[0]
    assert "A" in str(told_of[0][0])


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("path", ["/test.Scripted/Missing", "Missing"])
def test_unknown_method_fails_in_the_same_words(kind: RpcKind, path: str, channels: Any) -> None:
    told_of = []
    for channel in channels():
        method = getattr(channel, kind)(path)
        told_of.append(in_every_style(channel, kind, lambda: requests_of(kind), method))

    assert told_of[1] == told_of[0]
    assert {each[0] for each in told_of[0]} == {grpc.StatusCode.UNIMPLEMENTED}


@every_way
@every_kind
@stacks
def test_empty_messages_are_messages(kind: RpcKind, channels: Any, backend: Backend) -> None:
    answers = [
        in_every_style(channel, kind, lambda: iter((b"", b"")) if kind.streams_requests else b"")
        for channel in channels()
    ]

    assert answers[1] == answers[0]
    assert {len(visit.requests) for visit in backend.visits} == {1 + kind.streams_requests}


@every_way
@request_streams
@stacks
def test_stream_without_requests_is_answered(kind: RpcKind, channels: Any) -> None:
    answers = [in_every_style(channel, kind, lambda: iter(())) for channel in channels()]

    assert answers[1] == answers[0]
    assert answers[0][0] in (expected(kind, []), b"")


@every_way
@every_kind
@stacks
def test_method_is_used_again_and_by_many_threads_at_once(kind: RpcKind, channels: Any) -> None:
    for channel in channels():
        method = method_of(channel, kind)
        together = threading.Barrier(CROWD)

        def use(method: Any = method, together: Any = together) -> list[Any]:
            together.wait(PATIENCE)
            if kind.streams_responses:
                return [list(method(requests_of(kind))) for _ in range(5)]
            return [[method(requests_of(kind))] for _ in range(5)]

        with ThreadPoolExecutor(CROWD) as threads:
            answers = [thread.result() for thread in [threads.submit(use) for _ in range(CROWD)]]

        assert answers == [[expected(kind, REQUESTS)] * 5] * CROWD


@every_way
@every_kind
@stacks
def test_calls_run_side_by_side_and_end_in_any_order(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(*[Play(stalls=True)] * CROWD)
        calls = [start(channel, kind) for _ in range(CROWD)]
        backend.wait_until_stalled(CROWD)
        for visit in reversed(backend.visits):
            visit.release()

        answers = [take(call, kind) for call in reversed(calls)]

        right = expected(kind, REQUESTS)
        assert answers == [right if kind.streams_responses else right[0]] * CROWD


@every_way
@unary_responses
@stacks
def test_some_of_many_futures_are_waited_for(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(*[Play(stalls=True)] * CROWD)
        calls = [start(channel, kind) for _ in range(CROWD)]
        backend.wait_until_stalled(CROWD)
        with ThreadPoolExecutor(CROWD) as threads:
            waiting = [threads.submit(call.result) for call in calls]
            for visit in backend.visits[: CROWD // 2]:
                visit.release()
            some = [each.result() for each in islice(as_completed(waiting), CROWD // 2)]

            for call in calls:
                call.cancel()

        assert some == expected(kind, REQUESTS) * (CROWD // 2)
        assert sum(call.code() is grpc.StatusCode.OK for call in calls) == CROWD // 2


@every_way
@response_streams
@stacks
def test_stream_that_is_over_stays_over(kind: RpcKind, channels: Any) -> None:
    stories = []
    for channel in channels():
        call = start(channel, kind)
        story: list[Any] = [iter(call) is call, list(call), list(call)]
        story.append(told(next, call))
        story += [call.code(), call.details(), call.debug_error_string(), call.result()]
        stories.append(story)

    assert stories[1] == stories[0]
    assert stories[0][1:3] == [expected(kind, REQUESTS), []]


@every_way
@response_streams
@stacks
def test_some_but_not_all_responses_are_taken(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(Play(messages=20, stalls=True))
        call = start(channel, kind)
        story: list[Any] = [next(call) for _ in range(10)]
        story += [call.is_active(), call.done(), call.cancel(), call.code(), call.cancelled()]
        stories.append(story)

    assert stories[1] == stories[0]
    assert stories[0][:10] == expected(kind, REQUESTS, 10)
