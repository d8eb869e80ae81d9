"""A protected sync channel behaves as a bare one does: what a caller sees is the same."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import client_interceptors, wrap_channel

from . import idle
from .backend import PATIENCE, STALL, Backend, Play, RpcKind
from .clients import REQUESTS
from .servers import LOOPBACK, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

HEADERS, TRAILERS = (
    (("x-early", "1"), ("x-early-bin", b"\xff")),
    (("x-late", "3"), ("x-late-bin", b"\x00")),
)
WAYS: dict[str, Callable[[grpc.Channel, Stack], grpc.Channel]] = {
    "wrap": wrap_channel,
    "interceptor": lambda bare, stack: grpc.intercept_channel(bare, *client_interceptors(stack)),
}
every_way = pytest.mark.parametrize("way", WAYS)
every_kind = pytest.mark.parametrize("kind", RpcKind)
stacks = idle.stacks()


@pytest.fixture
def channels(
    way: str,
    policies: Callable[[], Any],
    target: str,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> Callable[..., tuple[grpc.Channel, grpc.Channel]]:
    """Make a bare and a protected channel to the same server."""

    def make(to: str = target) -> tuple[grpc.Channel, grpc.Channel]:
        bare, inner = (opened.enter_context(grpc.insecure_channel(to)) for _ in range(2))
        return bare, WAYS[way](inner, new_stack(policies()))

    return make


Channels = "Callable[..., tuple[grpc.Channel, grpc.Channel]]"


def _start(channel: grpc.Channel, kind: RpcKind, **options: Any) -> Any:
    """Start a call, and return its call object."""
    method = getattr(channel, kind)(kind.path)
    request = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]
    return (method if kind.streams_responses else method.future)(request, **options)


def _pairs(metadata: Any) -> list[tuple[str, Any]]:
    return [tuple(pair) for pair in metadata]


def _error(error: BaseException) -> tuple[Any, ...]:
    if not isinstance(error, grpc.RpcError):
        return (type(error),)
    assert isinstance(error, grpc.Call)
    return error.code(), error.details(), _pairs(error.trailing_metadata())


def _outcome(work: Callable[[], Any]) -> Any:
    """Return what comes of it, in a form that can be compared."""
    try:
        return work()
    except (grpc.RpcError, grpc.FutureCancelledError, grpc.FutureTimeoutError) as error:
        return _error(error)


def _story(call: Any, kind: RpcKind, release: Callable[[], None]) -> dict[str, Any]:
    """Use everything that the object of a stalled call has, and tell what it said."""
    told: dict[str, Any] = {}
    heard, called = threading.Event(), []
    told["before"] = (call.is_active(), call.running(), call.done(), call.cancelled())
    told["callback"] = call.add_callback(heard.set)
    call.add_done_callback(called.append)
    if kind is RpcKind.UNARY_UNARY:
        # Its headers come with its end.
        release()
    told["headers"] = _pairs(call.initial_metadata())
    release()
    told["messages"] = _outcome(lambda: list(call) if kind.streams_responses else call.result())
    told["status"] = (call.code(), call.details())
    told["trailers"] = _pairs(call.trailing_metadata())
    assert heard.wait(PATIENCE)
    told["exception"] = _outcome(lambda: call.exception() and _error(call.exception()))
    told["traceback"] = _outcome(lambda: type(call.traceback()))
    told["result"] = _outcome(call.result)
    told["after"] = (call.is_active(), call.running(), call.done(), call.cancelled())
    told["late callback"] = call.add_callback(heard.set)
    call.add_done_callback(called.append)
    assert all(given is call for given in called)
    told["called"] = len(called)
    told["cancel"] = call.cancel()
    told["remaining"] = call.time_remaining() is None
    return told


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND, StatusCode.CANCELLED])
def test_call_object_says_the_same_as_on_a_bare_channel(
    kind: RpcKind, code: StatusCode, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        play = Play(initial=HEADERS, trailing=TRAILERS, code=code, details="so", stalls=True)
        backend.plays(play)
        call = _start(channel, kind, timeout=PATIENCE)
        backend.wait_until_stalled(len(stories) + 1)
        stories.append(_story(call, kind, backend.release))

    assert stories[1] == stories[0]
    assert stories[0]["called"] == 2


@every_way
@every_kind
@stacks
def test_cancelled_call_says_the_same_as_on_a_bare_channel(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(Play(initial=HEADERS, messages=0, stalls=True))
        call = _start(channel, kind, timeout=PATIENCE)
        backend.wait_until_stalled(len(stories) + 1)
        story = _story(call, kind, call.cancel)
        if kind is RpcKind.UNARY_UNARY:
            # They come with its end, which gRPC hears of some time after it was cancelled.
            del story["headers"]
        stories.append(story)
        backend.wait_until_gone(len(stories))

    assert stories[1] == stories[0]
    assert stories[0]["status"][0] is StatusCode.CANCELLED


@every_way
@every_kind
@stacks
def test_waiting_for_a_result_in_vain_leaves_the_call_as_it_is(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.plays(STALL)
        call = _start(channel, kind)

        for wait in (call.result, call.exception, call.traceback):
            with pytest.raises(grpc.FutureTimeoutError):
                wait(timeout=0.001)

        assert call.is_active()
        assert call.cancel()


def _blocking(channel: grpc.Channel, kind: RpcKind, **options: Any) -> Any:
    """Make a call in the ways that wait for its end, and tell what came of it."""
    method = getattr(channel, kind)(kind.path)
    request: Any = REQUESTS[0]
    if kind.streams_responses:
        call = _start(channel, kind, **options)
        return _outcome(lambda: list(call)), call.code(), call.details()
    told = []
    for call in (method, method.with_call):
        if kind.streams_requests:
            request = iter(REQUESTS)
        answer = _outcome(lambda call=call, request=request: call(request, **options))
        if call is not method and isinstance(answer[-1], grpc.Call):
            response, ended = answer
            assert ended.code() is StatusCode.OK
            answer = (response, _pairs(ended.initial_metadata()), ended.details())
        told.append(answer)
    return told


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.INVALID_ARGUMENT])
def test_blocking_call_gives_the_same_as_on_a_bare_channel(
    kind: RpcKind, code: StatusCode, channels: Any, backend: Backend
) -> None:
    play = Play(initial=HEADERS, trailing=TRAILERS, code=code, details="so")
    told = []
    for channel in channels():
        backend.plays(*[play] * (1 if kind.streams_responses else 2))
        told.append(_blocking(channel, kind, metadata=(("tenant", "a"),), timeout=PATIENCE))

    assert told[1] == told[0]
    assert {visit.metadata["tenant"] for visit in backend.visits} == {"a"}
    assert all(0 < visit.remaining <= PATIENCE + 1 for visit in backend.visits)


@every_way
@every_kind
@stacks
def test_call_credentials_are_passed_on(kind: RpcKind, channels: Any, backend: Backend) -> None:
    # A channel without encryption refuses to send them.
    token = grpc.access_token_call_credentials("secret")
    told = [_blocking(channel, kind, credentials=token) for channel in channels()]

    assert told[1] == told[0]
    assert "UNAUTHENTICATED" in str(told[0])
    assert backend.attempts == 0


@every_way
@every_kind
@stacks
def test_compression_is_passed_on(
    kind: RpcKind, channels: Any, target: str, opened: ExitStack
) -> None:
    wire = Wire(target)
    opened.callback(wire.cut)
    answers, compressed = 3 if kind.streams_responses else 1, []
    for channel in channels(wire.target):
        method = getattr(channel, kind)(kind.path)
        request: Any = b"x" * 10_000
        before = wire.carried
        call = (method if kind.streams_responses else method.future)(
            iter((request,)) if kind.streams_requests else request,
            compression=grpc.Compression.Gzip,
        )
        assert len(list(call) if kind.streams_responses else [call.result()]) == answers
        # The server does not compress what it answers.
        compressed.append(wire.carried - before < answers * 10_000 + 5_000)

    assert compressed[1] is compressed[0]
    assert compressed[0] or kind is RpcKind.STREAM_UNARY


@pytest.fixture
def nowhere() -> Any:
    """An address that nobody listens at."""
    with socket.socket() as reserved:
        reserved.bind((LOOPBACK, 0))
        yield f"{LOOPBACK}:{reserved.getsockname()[1]}"


@every_way
@every_kind
@idle.stacks("one-attempt")
def test_call_waits_for_a_connection_only_when_told_to(
    kind: RpcKind, channels: Any, nowhere: str
) -> None:
    for channel in channels(nowhere):
        impatient = _start(channel, kind, timeout=PATIENCE)
        patient = _start(channel, kind, timeout=0.1, wait_for_ready=True)

        assert impatient.code() is StatusCode.UNAVAILABLE
        assert patient.code() is StatusCode.DEADLINE_EXCEEDED


@every_way
@idle.stacks("one-attempt")
def test_channel_tells_of_its_connection(channels: Any) -> None:
    for channel in channels():
        seen: list[grpc.ChannelConnectivity] = []

        channel.subscribe(seen.append)
        grpc.channel_ready_future(channel).result(PATIENCE)
        channel.unsubscribe(seen.append)

        assert seen[0] is grpc.ChannelConnectivity.IDLE


@every_way
@every_kind
@stacks
def test_request_that_can_not_be_serialized_fails_as_on_a_bare_channel(
    kind: RpcKind, channels: Any
) -> None:
    def refuse(_: bytes) -> bytes:
        msg = "not today"
        raise ValueError(msg)

    told = []
    for channel in channels():
        method = getattr(channel, kind)(kind.path, request_serializer=refuse)
        request: Any = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]
        start = method if kind.streams_responses else method.future

        def work(start: Any = start, request: Any = request) -> Any:
            call = start(request)
            return list(call) if kind.streams_responses else call.result()

        told.append(_outcome(work))

    assert told[1][:2] == told[0][:2]
    assert told[0][0] in {StatusCode.INTERNAL, StatusCode.UNKNOWN}
