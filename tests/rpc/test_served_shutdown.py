"""A protected server stops as a bare one does, and its clients may go at any point."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from . import leaks
from .backend import PATIENCE, RpcKind
from .served import STREAMS, every_handler, every_server, idle_stacks, pair, seen, service
from .steps import AIO, PLAIN, READ, READER_WRITER, SYNC, handler, iter_of

if TYPE_CHECKING:
    from contextlib import ExitStack

    from .served import Side, Sides
    from .steps import Steps

sides = pytest.fixture(pair)
every_waiting_handler = pytest.mark.parametrize("nature", [SYNC, AIO, READER_WRITER])


class Stall:
    """A handler that waits for the test, or until its client has gone.

    Attributes:
        begun: Set when it waits.
        ended: Set when it has ended.
    """

    def __init__(self, nature: str, first: bytes | None = None) -> None:
        self._plain = nature in {SYNC, PLAIN}
        self._first = first
        self._go = threading.Event()
        self._gate = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.begun = threading.Event()
        self.ended = threading.Event()

    def body(self, context: Any) -> Steps:
        try:
            if self._first is not None:
                yield READ
                yield self._first
            if self._plain:
                context.add_callback(self._go.set)
            else:
                self._loop = asyncio.get_running_loop()
            self.begun.set()
            yield self._go.wait(PATIENCE) and None if self._plain else self._gate.wait()
            yield b"done"
        finally:
            self.ended.set()

    def release(self) -> None:
        """Let it go on."""
        self._go.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._gate.set)


def _stalled(
    nature: str, kind: RpcKind, sides: Sides, opened: ExitStack, first: bytes | None = None
) -> list[tuple[Side, Stall, Any]]:
    """Return both sides, each with a call that stalls."""
    calls: list[tuple[Side, Stall, Any]] = []
    stalls = [Stall(nature, first) for _ in range(2)]

    def body(context: Any) -> Steps:
        return stalls[len(calls)].body(context)

    for side, stall in zip(
        sides.of(None, service(kind, handler(nature, kind, body))), stalls, strict=True
    ):
        opened.callback(stall.release)
        call = side.start(kind)
        assert stall.begun.wait(PATIENCE)
        calls.append((side, stall, call))
    return calls


@every_handler
@idle_stacks
def test_call_that_ends_in_time_is_served_to_its_end(
    nature: str, kind: RpcKind, sides: Sides, opened: ExitStack
) -> None:
    told = []
    for side, stall, call in _stalled(nature, kind, sides, opened):
        stopping = side.stop(PATIENCE)
        assert side.look(kind).code is not StatusCode.OK
        assert not stopping.done()

        stall.release()

        told.append(seen(call, kind))
        stopping.result(PATIENCE)
        assert side.do(lambda server: server.wait_for_termination(PATIENCE)) is False

    assert told[1] == told[0]
    assert told[0].messages == [b"done"]


@every_waiting_handler
@pytest.mark.parametrize("kind", RpcKind)
@idle_stacks
@pytest.mark.parametrize("grace", [None, 0.001])
def test_call_that_does_not_end_in_time_is_cut(
    nature: str, kind: RpcKind, grace: float | None, sides: Sides, opened: ExitStack
) -> None:
    told = []
    for side, stall, call in _stalled(nature, kind, sides, opened):
        side.stop(grace).result(PATIENCE)

        # Whether the connection or its end is told first is a race of gRPC's own.
        told.append(seen(call, kind)._replace(details=""))
        assert stall.ended.wait(PATIENCE)

    assert told[1] == told[0]
    assert told[0].code is StatusCode.UNAVAILABLE
    leaks.assert_nothing_held([sides.stack])


@every_waiting_handler
@pytest.mark.parametrize("kind", STREAMS)
@idle_stacks
def test_stream_under_way_is_cut(
    nature: str, kind: RpcKind, sides: Sides, opened: ExitStack
) -> None:
    told = []
    for side, stall, call in _stalled(nature, kind, sides, opened, first=b"first"):
        side.stop(None).result(PATIENCE)

        told.append(seen(call, kind))
        assert stall.ended.wait(PATIENCE)

    assert told[1] == told[0]
    assert told[0].messages == [b"first"]
    assert told[0].code is StatusCode.UNAVAILABLE


@every_waiting_handler
@pytest.mark.parametrize("kind", RpcKind)
@idle_stacks
@pytest.mark.parametrize("first", [None, b"first"], ids=["before", "after-a-message"])
def test_client_may_go_while_the_handler_waits(
    nature: str, kind: RpcKind, first: bytes | None, sides: Sides, opened: ExitStack
) -> None:
    for side, stall, call in _stalled(nature, kind, sides, opened, first):
        if first is not None and kind.streams_responses:
            assert next(call) == first

        assert call.cancel()

        assert stall.ended.wait(PATIENCE)
        assert call.code() is StatusCode.CANCELLED
        side.close()
    leaks.eventually(lambda: leaks.counted(sides.stack), str)
    assert leaks.results(sides.stack) == {("CANCELLED", "ignored"): 1}


# In the migration pool gRPC itself may wait for ever for somebody to take a message.
@every_waiting_handler
@pytest.mark.parametrize("kind", RpcKind)
@idle_stacks
def test_client_may_go_at_once(nature: str, kind: RpcKind, sides: Sides) -> None:
    def body(_: Any) -> Steps:
        while (yield READ) is not None:
            pass
        yield b"answer"

    for side in sides.of(None, service(kind, handler(nature, kind, body))):
        for _ in range(10):
            side.start(kind).cancel()

        assert side.look(kind).messages == [b"answer"]
    leaks.assert_nothing_held([sides.stack])


@every_server
@idle_stacks
def test_idle_server_stops_as_often_as_it_is_told_to(sides: Sides) -> None:
    kind = RpcKind.UNARY_UNARY
    for side in sides.of(None, service(kind, handler(PLAIN, kind, lambda _: iter_of(b"answer")))):
        assert side.do(lambda server: server.wait_for_termination(0.001)) is True
        stopping = [side.stop(grace) for grace in (PATIENCE, None, 0.001)]

        for each in stopping:
            each.result(PATIENCE)
        side.close()

        assert side.do(lambda server: server.wait_for_termination(PATIENCE)) is False
        assert side.look(kind).code is StatusCode.UNAVAILABLE
