"""A sync call is cancelled, or expires, at any point and from any side as on a bare channel."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from tests.waiting import until

from . import pairs
from .backend import PATIENCE, STALL, Backend, Play, RpcKind
from .pairs import (
    every_kind,
    every_way,
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

channels = pytest.fixture(pairs.connect)
HALF_WAY = Play(messages=2, stalls=True)


def _end_of(call: Any) -> list[Any]:
    """Return what a call that has ended says of its end."""
    ways = (call.result, call.exception, call.traceback)
    flags = [call.done(), call.running(), call.cancelled(), call.is_active()]
    return [call.code(), call.details(), *flags, call.cancel(), *map(told, ways)]


class Interrupt(Exception):
    """What a signal handler raises."""


class Signals:
    """Has something done in the main thread while that waits for a call, by a signal.

    Elsewhere it is in the midst of gRPC, or of a lock, which do not bear that something is raised
    there: what is locked then stays so, and a later test waits for it.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._work: Callable[[], object] = str

    def does(self, work: Callable[[], object]) -> None:
        """Set what is done when the next signal comes."""
        self._done.clear()
        self._work = work

    def send(self, backend: Backend) -> None:
        """Send the signal, once a handler has stalled, until the work was done."""
        backend.wait_until_stalled()
        ident = threading.main_thread().ident
        assert ident is not None

        def sent() -> bool:
            signal.pthread_kill(ident, signal.SIGUSR1)
            # gRPC looks for signals every 0.2 s, and begins anew to wait with each.
            return self._done.wait(1.0)

        until(sent)

    def handle(self, _: int, frame: FrameType | None) -> None:
        """Do the work, if the main thread waits; else the signal comes again."""
        waits = frame is not None and frame.f_code.co_name in {"_blocking", "wait"}
        if waits and not self._done.is_set():
            self._done.set()
            self._work()


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Take the signal for the time of a test."""
    taken = Signals()
    before = signal.signal(signal.SIGUSR1, taken.handle)
    yield taken
    signal.signal(signal.SIGUSR1, before)


@every_way
@every_kind
@stacks
def test_call_is_cancelled_as_soon_as_it_is_made_and_only_once(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    backend.plays(STALL, STALL)
    stories = []
    for channel in channels():
        call = start(channel, kind)
        story = [call.cancel(), call.cancel()]
        stories.append([*story, *_end_of(call)])

    assert stories[1] == stories[0]
    assert stories[0][:3] == [True, False, StatusCode.CANCELLED]


@every_way
@every_kind
@stacks
def test_call_that_has_ended_is_not_cancelled(kind: RpcKind, channels: Any) -> None:
    stories = []
    for channel in channels():
        call = start(channel, kind)
        take(call, kind)
        stories.append([call.cancel(), call.code(), call.cancelled()])

    assert stories == [[False, StatusCode.OK, False]] * 2


@every_way
@every_kind
@stacks
def test_threads_that_wait_for_a_call_hear_that_it_is_cancelled(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call = start(channel, kind)
        backend.wait_until_stalled()
        asked = [call.result, call.exception, call.traceback, call.code, call.details]
        with ThreadPoolExecutor(len(asked)) as threads:
            waiting = [threads.submit(told, ask) for ask in asked]
            assert not any(each.done() for each in waiting)

            assert call.cancel()

            stories.append([each.result(PATIENCE) for each in waiting])
        backend.wait_until_gone()

    assert stories[1] == stories[0]
    assert stories[0][0][0] is grpc.FutureCancelledError


@every_way
@response_streams
@stacks
def test_thread_that_iterates_hears_that_the_call_is_cancelled(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(HALF_WAY)
        call = start(channel, kind)
        with ThreadPoolExecutor(1) as threads:
            iterating = threads.submit(told, list, call)
            backend.wait_until_stalled()

            call.cancel()

            stories.append([iterating.result(PATIENCE)[:2], call.code(), call.cancelled()])
        backend.wait_until_gone()

    assert stories[1] == stories[0]
    assert stories[0][0][0] is StatusCode.CANCELLED


@every_way
@response_streams
@stacks
@pytest.mark.parametrize("read", [0, 1, 2])
def test_stream_that_is_cancelled_gives_no_more_messages(
    kind: RpcKind, read: int, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(HALF_WAY)
        call = start(channel, kind)
        story: list[Any] = [next(call) for _ in range(read)]
        backend.wait_until_stalled()
        story.append(call.cancel())
        story += [told(next, call) for _ in range(2)]
        stories.append(story)
        backend.wait_until_gone()

    assert stories[1] == stories[0]
    assert stories[0][-1][0] is StatusCode.CANCELLED


@every_way
@request_streams
@stacks
def test_request_iterator_cancels_its_own_call(kind: RpcKind, channels: Any) -> None:
    stories = []
    for channel in channels():
        started: list[Any] = []
        known, after = threading.Event(), threading.Event()

        def requests(started: Any = started, known: Any = known, after: Any = after) -> Any:
            yield b"a"
            assert known.wait(PATIENCE)
            started.append(started[0].cancel())
            after.set()
            yield b"b"

        started.append(start(channel, kind, requests()))
        known.set()
        stories.append([told(take, started[0], kind)])
        assert after.wait(PATIENCE)
        stories[-1] += [started[0].code(), started[0].cancelled(), started[1]]

    assert [story[1:] for story in stories] == [[StatusCode.CANCELLED, True, True]] * 2
    assert stories[1][0][0] is stories[0][0][0]


@every_way
@every_kind
@stacks
def test_signal_handler_cancels_the_call_that_the_main_thread_waits_for(
    kind: RpcKind, channels: Any, backend: Backend, signals: Signals
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call = start(channel, kind)
        signals.does(call.cancel)
        with ThreadPoolExecutor(1) as threads:
            threads.submit(signals.send, backend)

            stories.append([told(take, call, kind), call.code()])
        backend.wait_until_gone()

    assert stories[1] == stories[0]
    assert stories[0][1] is StatusCode.CANCELLED


@every_way
@unary_responses
@stacks
@pytest.mark.parametrize("style", ["__call__", "with_call"])
def test_what_a_signal_handler_raises_ends_the_call_that_blocks(
    kind: RpcKind, style: str, channels: Any, backend: Backend, signals: Signals
) -> None:
    def interrupt() -> None:
        raise Interrupt

    for channel in channels():
        signals.does(interrupt)
        backend.visits.clear()
        backend.plays(STALL)
        with ThreadPoolExecutor(1) as threads:
            # The server has stalled: the main thread waits inside the call.
            threads.submit(signals.send, backend)

            with pytest.raises(Interrupt):
                getattr(method_of(channel, kind), style)(requests_of(kind))

        # When gRPC tells the server is a matter of luck; the permit is given back at once.
        backend.release()
