"""A protected sync channel behaves as a bare one in what is rarely looked at."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from grpc.experimental import ChannelOptions

from . import idle, leaks, pairs
from .backend import ANSWER, PATIENCE, STALL, Backend, Play, RpcKind, fail
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
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

BRIEF = 2.0
SINGLE_THREADED = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
TENANT = contextvars.ContextVar("TENANT", default="nobody")
channels = pytest.fixture(pairs.connect)


def in_time(work: Callable[[], Any]) -> Any:
    """Return what comes of it, or that nothing does."""
    box: list[Any] = []
    thread = threading.Thread(target=lambda: box.append(told(work)), daemon=True)
    thread.name = "test-caller-in-time"
    thread.start()
    thread.join(BRIEF)
    return box[0] if box else "hangs"


@every_way
@every_kind
@stacks
def test_arguments_can_be_given_by_name(kind: RpcKind, channels: Any) -> None:
    name = "request_iterator" if kind.streams_requests else "request"
    answers = []
    for channel in channels():
        method = getattr(channel, kind)(method=kind.path)
        answer = method(**{name: requests_of(kind)})
        answers.append([list(answer) if kind.streams_responses else answer])
        if not kind.streams_responses:
            answers[-1].append(method.with_call(**{name: requests_of(kind)})[0])
            answers[-1].append(method.future(**{name: requests_of(kind)}).result())

    assert answers[1] == answers[0]


@every_way
@every_kind
@stacks
def test_path_of_a_method_may_be_bytes(kind: RpcKind, channels: Any) -> None:
    answers = []
    for channel in channels():
        method = getattr(channel, kind)(kind.path.encode())
        answers.append(in_every_style(channel, kind, lambda: requests_of(kind), method))

    assert answers[1] == answers[0]
    assert not isinstance(answers[0][0], tuple)


def _unreadable(readable: int) -> Callable[[bytes], bytes]:
    def deserialize(message: bytes) -> bytes:
        if message.startswith(b"0") and readable:
            return message
        raise ValueError

    return deserialize


@every_way
@response_streams
@stacks
@pytest.mark.parametrize("readable", [0, 1])
@pytest.mark.parametrize("stalls", [False, True])
def test_message_that_can_not_be_read_ends_the_stream(
    kind: RpcKind, readable: int, stalls: bool, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(Play(stalls=stalls))
        method = method_of(channel, kind, response_deserializer=_unreadable(readable))
        call = method(requests_of(kind))
        asked = [call.__next__] * (readable + 2)
        asked += [call.code, call.details, call.done, call.is_active, call.cancelled, call.result]
        stories.append([in_time(ask) for ask in asked])
        # gRPC itself never ends such a call; what holds it is a circle through its traceback.
        del call, asked
        leaks.collect()

    assert stories[1] == stories[0]
    assert stories[0][-1][0] is StatusCode.INTERNAL


@every_way
@every_kind
@stacks
def test_who_cancels_may_hold_a_lock_that_the_callback_takes(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call, lock, heard = start(channel, kind), threading.Lock(), threading.Event()
        backend.wait_until_stalled()

        def locking(_: Any, lock: Any = lock, heard: Any = heard) -> None:
            if lock.acquire(timeout=1.0):
                lock.release()
                heard.set()

        call.add_done_callback(locking)
        with lock:
            call.cancel()

        assert heard.wait(BRIEF)


@every_way
@stacks
def test_single_threaded_stream_that_runs_refuses_to_wait(channels: Any) -> None:
    stories = []
    for channel in channels(options=SINGLE_THREADED):
        call = start(channel, RpcKind.UNARY_STREAM)
        asked = (call.code, call.details, call.result, call.exception, call.trailing_metadata)
        stories.append([in_time(ask) for ask in asked])
        call.cancel()

    assert [[each[0] for each in story] for story in stories][1] == [each[0] for each in stories[0]]


@every_way
@stacks
def test_single_threaded_stream_that_is_cancelled_holds_no_permit(
    way: str,
    policies: Callable[[], Any],
    target: str,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    stack = new_stack(policies())
    inner = opened.enter_context(grpc.insecure_channel(target, options=SINGLE_THREADED))
    backend.plays(STALL)
    call = start(pairs.PROTECTED[way](inner, stack), RpcKind.UNARY_STREAM)
    backend.wait_until_stalled()

    call.cancel()

    leaks.assert_nothing_held([stack])
    assert call.done()


@every_way
@response_streams
@stacks
def test_error_of_a_cancelled_stream_is_cancelled(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call = start(channel, kind)
        backend.wait_until_stalled()
        call.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        error: Any = caught.value
        story = [error.cancelled(), error.done(), error.code(), error.details()]
        stories.append([*story, *map(told, (error.result, error.exception, error.traceback))])

    assert stories[1] == stories[0]


@every_way
@response_streams
@stacks
def test_next_is_a_method_too(kind: RpcKind, channels: Any) -> None:
    answers = []
    for channel in channels():
        call = start(channel, kind)
        answers.append([call.next() for _ in range(3)])

    assert answers[1] == answers[0]


@every_way
@request_streams
@idle.stacks("timeout-retry")
def test_iterator_runs_in_the_context_of_the_call_after_a_retry(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    seen: list[str] = []
    go_on = threading.Event()

    def requests() -> Iterator[bytes]:
        seen.append(TENANT.get())
        yield b"a"
        assert go_on.wait(PATIENCE)
        seen.append(TENANT.get())
        yield b"b"
        seen.append(TENANT.get())
        yield b"c"

    backend.plays(fail(StatusCode.UNAVAILABLE, reads=0), ANSWER)
    _, channel = channels()
    token = TENANT.set("mine")
    call = start(channel, kind, requests())
    TENANT.reset(token)
    backend.wait_for(lambda: backend.attempts == 2)
    go_on.set()
    take(call, kind)

    assert set(seen) == {"mine"}


@every_way
@request_streams
@stacks
def test_iterator_is_closed_when_its_call_is_over_and_kept(
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

        call = start(channel, kind, requests())
        assert take(call, kind)
        go_on.set()

        assert closed.wait(BRIEF)
        assert call.done()


@every_way
@every_kind
@stacks
def test_signal_handler_that_cancels_just_before_the_wait_is_heard(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call = start(channel, kind)
        backend.wait_until_stalled()
        inner = call._state.condition if hasattr(call, "_state") else call._driver.changed
        wait = inner.wait

        def interrupted(timeout: float | None = None, call: Any = call, wait: Any = wait) -> Any:
            # As in a signal handler: by the very thread that is about to wait.
            call.cancel()
            return wait(timeout=timeout)

        inner.wait = interrupted

        assert in_time(call.result) == (grpc.FutureCancelledError, "")
