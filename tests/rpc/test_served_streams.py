"""The response streams of a protected server end where and as those of a bare one do."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import Bulkhead

from . import leaks
from .backend import PATIENCE, RpcKind
from .served import STREAMS, Sides, method_handler, service
from .steps import READER_WRITER, SYNC, handler

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import LoopThread

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")
streams = pytest.mark.parametrize("kind", STREAMS)


@pytest.fixture
def sync(loop: LoopThread, opened: ExitStack, new_stack: Callable[..., Stack]) -> Sides:
    return Sides(SYNC, loop, opened, new_stack(Bulkhead(64)))


class OnlyNext:
    """An iterator in the sense of next(), which is all that gRPC asks of it."""

    def __init__(self, *_: Any) -> None:
        self.left = 2

    def __next__(self) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return b"x"


@streams
@pytest.mark.parametrize(
    "made", [OnlyNext, lambda *_: [b"a"], lambda *_: None], ids=["next", "list", "None"]
)
def test_what_a_handler_returns_is_taken_as_grpc_takes_it(
    kind: RpcKind, made: Any, sync: Sides
) -> None:
    bare, protected = (side.look(kind) for side in sync.of(None, service(kind, made)))

    assert protected == bare


@streams
def test_dropped_generator_ends_in_its_own_context_and_thread(kind: RpcKind, sync: Sides) -> None:
    told: list[list[Any]] = []
    closed = threading.Event()

    def endless(*_: Any) -> Any:
        token = VARIABLE.set("set")
        thread = threading.current_thread().name
        try:
            while True:
                yield b"x" * 100_000
        finally:
            try:
                VARIABLE.reset(token)
                said = "reset"
            except ValueError as error:
                said = str(error)[-28:]
            told.append([threading.current_thread().name == thread, said])
            closed.set()

    for side in sync.of(None, service(kind, endless)):
        closed.clear()
        call = side.start(kind)
        next(call)
        call.cancel()
        assert closed.wait(PATIENCE)

    assert told[1] == told[0]


@streams
def test_stream_that_a_log_record_keeps_alive_gives_its_permit_back(
    kind: RpcKind, sync: Sides
) -> None:
    kept: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    def refuse(_: Any) -> Any:
        raise ValueError

    keeping, logger = Keeping(), logging.getLogger("grpc")
    logger.addHandler(keeping)
    try:
        method = method_handler(kind, lambda *_: iter([b"a"]), response_serializer=refuse)
        methods = grpc.method_handlers_generic_handler("test.Scripted", {kind: method})
        for side in sync.of(None, methods):
            assert side.look(kind).code is grpc.StatusCode.INTERNAL
            side.close()
        assert kept
        leaks.assert_nothing_held([sync.stack])
    finally:
        logger.removeHandler(keeping)


@streams
def test_none_ends_a_stream_as_a_success(kind: RpcKind, sync: Sides) -> None:
    def early(*_: Any) -> Any:
        yield b"first"
        yield None
        yield b"never"

    bare, protected = (side.look(kind) for side in sync.of(None, service(kind, early)))

    assert protected == bare
    leaks.eventually(lambda: leaks.counted(sync.stack), str)
    assert leaks.results(sync.stack) == {("OK", "success"): 1}


@streams
def test_done_callback_is_given_the_context_of_the_handler(
    kind: RpcKind, loop: LoopThread, opened: ExitStack, new_stack: Callable[..., Stack]
) -> None:
    sides = Sides(READER_WRITER, loop, opened, new_stack(Bulkhead(64)))
    same: list[bool] = []

    def body(context: Any) -> Any:
        context.add_done_callback(lambda given: same.append(given is context))
        yield b"answer"

    for side in sides.of(None, service(kind, handler(READER_WRITER, kind, body))):
        side.look(kind)
        side.close()

    assert same == [True, True]
