"""Callbacks at the end of a sync call are called as on a bare channel."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from . import leaks, pairs
from .backend import PATIENCE, STALL, Backend, Play, RpcKind
from .pairs import every_kind, every_way, one_attempt, stacks, start, take, told

MANY = 50
ENDS = pytest.mark.parametrize(
    "play",
    [
        pytest.param(Play(stalls=True), id="ok"),
        pytest.param(Play(messages=0, stalls=True, code=StatusCode.NOT_FOUND), id="error"),
    ],
)
channels = pytest.fixture(pairs.connect)


class Heard:
    """A callback that notes what it is told, and by which thread."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.called = threading.Event()

    def __call__(self, *call: Any) -> None:
        self.calls.append(call)
        self.threads.append(threading.current_thread())
        self.called.set()

    def wait(self) -> None:
        assert self.called.wait(PATIENCE)


def _too_late(call: Any) -> bool:
    return not call.add_callback(str)


def _fail(*_: Any) -> None:
    msg = "a callback of the application"
    raise ValueError(msg)


@every_way
@every_kind
@stacks
@ENDS
def test_callbacks_are_called_once_each_in_their_order(
    kind: RpcKind, play: Play, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(play)
        call, order, last = start(channel, kind), list[int](), Heard()
        backend.wait_until_stalled()
        for number in range(MANY):
            if number % 2:
                call.add_done_callback(lambda _, number=number, order=order: order.append(number))
            else:
                assert call.add_callback(lambda number=number, order=order: order.append(number))
        call.add_done_callback(last)

        backend.release()
        told(take, call, kind)
        last.wait()

        assert order == list(range(MANY))
        assert last.calls == [(call,)]


@every_way
@every_kind
@stacks
@ENDS
def test_callback_finds_the_call_over(
    kind: RpcKind, play: Play, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(play)
        call, found, heard = start(channel, kind), list[Any](), Heard()
        backend.wait_until_stalled()

        def look(call: Any, found: Any = found) -> None:
            found += [call.done(), call.running(), call.is_active(), call.code()]
            found += [call.details(), call.cancel(), call.trailing_metadata()]
            found.append(told(call.result) if not kind.streams_responses else None)

        call.add_done_callback(look)
        call.add_done_callback(heard)
        backend.release()
        told(take, call, kind)
        heard.wait()
        stories.append(found)

    assert stories[1] == stories[0]
    assert len(stories[0]) == 8


@every_way
@every_kind
@stacks
def test_callback_that_raises_harms_neither_the_others_nor_the_channel(
    kind: RpcKind, channels: Any, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(Play(stalls=True))
        call, heard = start(channel, kind), Heard()
        backend.wait_until_stalled()
        with caplog.at_level(logging.ERROR):
            call.add_done_callback(_fail)
            call.add_done_callback(heard)

            backend.release()
            take(call, kind)
            heard.wait()

        assert "callback" in caplog.text
        caplog.clear()
        assert take(start(channel, kind), kind)


@every_way
@every_kind
@stacks
def test_late_callback_is_called_at_once_by_who_registers_it(kind: RpcKind, channels: Any) -> None:
    for channel in channels():
        call, heard = start(channel, kind), Heard()
        take(call, kind)

        call.add_done_callback(heard)

        assert heard.calls == [(call,)]
        assert heard.threads == [threading.current_thread()]
        with pytest.raises(ValueError, match="a callback of the application"):
            call.add_done_callback(_fail)
        # gRPC sets the code a moment before it lets go of the callbacks.
        leaks.eventually(partial(_too_late, call), str)


@every_way
@every_kind
@stacks
def test_callback_makes_another_call(kind: RpcKind, channels: Any, backend: Backend) -> None:
    answers = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(Play(stalls=True))
        call, answered = start(channel, kind), threading.Event()
        backend.wait_until_stalled()

        def again(_: Any, channel: Any = channel, answered: Any = answered) -> None:
            method = channel.unary_unary(RpcKind.UNARY_UNARY.path)
            answers.append(told(method, b"again"))
            answered.set()

        call.add_done_callback(again)
        backend.release()
        take(call, kind)

        assert answered.wait(PATIENCE)

    assert answers == [b"again"] * 2


@every_way
@every_kind
@stacks
def test_callback_hears_of_a_cancelled_call(kind: RpcKind, channels: Any, backend: Backend) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call, heard, later = start(channel, kind), Heard(), Heard()
        backend.wait_until_stalled()
        call.add_done_callback(heard)

        call.cancel()
        call.add_done_callback(later)
        heard.wait()

        assert heard.calls == later.calls == [(call,)]
        assert call.cancelled()


@every_way
@every_kind
@one_attempt
def test_who_cancels_may_hold_a_lock_that_the_callback_takes(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call, heard, lock = start(channel, kind), Heard(), threading.Lock()
        backend.wait_until_stalled()

        def locking(call: Any, heard: Heard = heard, lock: Any = lock) -> None:
            with lock:
                heard(call)

        call.add_done_callback(locking)
        with lock:
            call.cancel()

        heard.wait()


@every_way
@every_kind
@stacks
def test_callback_that_is_dropped_with_its_call_keeps_neither_alive(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call, heard = start(channel, kind), Heard()
        backend.wait_until_stalled()
        call.add_callback(heard)

        del call

        heard.wait()
        backend.wait_until_gone()
        assert isinstance(channel, grpc.Channel)
