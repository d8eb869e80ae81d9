"""A protected server finds its handlers as a bare one does, and logs what they raise as often."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from . import leaks
from .backend import PATIENCE, RpcKind
from .served import (
    every_handler,
    every_kind,
    every_server,
    idle_stacks,
    method_handler,
    pair,
    seen,
    service,
)
from .steps import AIO, SYNC, handler, iter_of
from .test_served_endings import ENDINGS, NOT_ON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .served import Sides

sides = pytest.fixture(pair)


def _saying(nature: str, kind: RpcKind, word: bytes) -> Any:
    return method_handler(kind, handler(nature, kind, lambda _: iter_of(word)))


class Fresh(grpc.GenericRpcHandler):
    """Makes another handler for each call, and counts them."""

    def __init__(self, nature: str, kind: RpcKind) -> None:
        self._nature = nature
        self._kind = kind
        self.made = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method != self._kind.path:
            return None
        if "broken" in dict(handler_call_details.invocation_metadata or ()):
            raise LookupError
        self.made += 1
        return _saying(self._nature, self._kind, b"%d" % self.made)


@every_handler
@idle_stacks
def test_service_may_make_a_handler_for_each_call(nature: str, kind: RpcKind, sides: Sides) -> None:
    fresh = Fresh(nature, kind)

    told = [[side.look(kind).messages for _ in range(3)] for side in sides.of(None, fresh)]

    assert told == [[[b"1"], [b"2"], [b"3"]], [[b"4"], [b"5"], [b"6"]]]


@every_server
@every_kind
@idle_stacks
def test_method_is_unknown_until_it_is_added(nature: str, kind: RpcKind, sides: Sides) -> None:
    for side in sides.of():
        unknown = side.look(kind)
        side.do(
            lambda server: server.add_generic_rpc_handlers(
                (
                    service(kind, handler(nature, kind, lambda _: iter_of(b"added"))),
                    service(kind, handler(nature, kind, lambda _: iter_of(b"second"))),
                )
            )
        )

        assert (unknown.code, unknown.details) == (StatusCode.UNIMPLEMENTED, "Method not found!")
        assert side.look(kind).messages == [b"added"]
    leaks.assert_nothing_held([sides.stack])


@every_handler
@idle_stacks
def test_registered_handler_comes_before_a_generic_one(
    nature: str, kind: RpcKind, sides: Sides
) -> None:
    def register(server: Any) -> None:
        methods = {kind: _saying(nature, kind, b"registered")}
        server.add_registered_method_handlers("test.Scripted", methods)

    generic = service(kind, handler(nature, kind, lambda _: iter_of(b"generic")))
    for side in sides.of(register, generic):
        assert side.look(kind, registered=True).messages == [b"registered"]
        assert side.look(kind).messages in ([b"registered"], [b"generic"])

    leaks.eventually(lambda: leaks.counted(sides.stack) == 2, str)


TRAIL: ContextVar[tuple[str, ...]] = ContextVar("trail", default=())


class Marking(grpc.ServerInterceptor):
    """Leaves a mark in a context variable."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        TRAIL.set((*TRAIL.get(), self._mark))
        return continuation(handler_call_details)


class AioMarking(grpc.aio.ServerInterceptor):
    """Leaves a mark in a context variable, under asyncio."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        TRAIL.set((*TRAIL.get(), self._mark))
        return await continuation(handler_call_details)


@every_server
@every_kind
@idle_stacks
def test_handler_sees_what_interceptors_around_ours_have_set(
    nature: str, kind: RpcKind, sides: Sides
) -> None:
    make: Callable[[str], Any] = Marking if nature == SYNC else AioMarking
    behaviour = handler(nature, kind, lambda _: iter_of(" ".join(TRAIL.get()).encode()))

    told = [
        side.look(kind).messages
        for side in sides.of(
            None, service(kind, behaviour), before=(make("a"), make("b")), after=(make("c"),)
        )
    ]

    assert told == [[b"a b c"]] * 2


@pytest.fixture
def grpcs_records() -> Iterator[list[tuple[Any, ...]]]:
    """What gRPC logs meanwhile: logger, level, message and the kind of exception."""
    records: list[tuple[Any, ...]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[0] if record.exc_info else None
            message = record.getMessage().partition("Traceback")[0]
            records.append((record.name, record.levelno, message, error))

    keeping, logger = Keeping(logging.INFO), logging.getLogger("grpc")
    logger.addHandler(keeping)
    yield records
    logger.removeHandler(keeping)


@every_handler
@idle_stacks
def test_grpc_logs_as_much_as_without_us(
    nature: str, kind: RpcKind, sides: Sides, grpcs_records: list[tuple[Any, ...]]
) -> None:
    endings = {name: body for name, body in ENDINGS.items() if nature not in NOT_ON.get(name, ())}
    methods = {name: handler(nature, kind, body) for name, body in endings.items()}
    told = []
    for side in sides.of(None, service(kind, **methods)):
        del grpcs_records[:]
        for name in endings:
            side.look(kind, path=f"/test.Scripted/{name}")
        side.close()
        # A client may hear of an end before the server logs it, and another call may come between.
        told.append(sorted(grpcs_records, key=str))

    assert told[1] == told[0]
    assert sum(record[-1] is ValueError for record in told[0]) >= 3


@every_server
@every_kind
@idle_stacks
def test_service_that_raises_is_logged_as_without_us(
    nature: str, kind: RpcKind, sides: Sides, grpcs_records: list[tuple[Any, ...]]
) -> None:
    told = []
    for side in sides.of(None, Fresh(nature, kind)):
        del grpcs_records[:]
        outcome = side.look(kind, metadata=(("broken", "yes"),))
        side.close()
        told.append((outcome, list(grpcs_records)))

    assert told[1] == told[0]
    assert told[0][0].code is StatusCode.UNKNOWN
    assert len(told[0][1]) == 1


@pytest.mark.parametrize("nature", [SYNC])
@every_kind
@idle_stacks
def test_server_takes_no_more_calls_than_it_may(nature: str, kind: RpcKind, sides: Sides) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    def body(_: Any) -> Any:
        begun.release()
        go.wait(PATIENCE)
        yield b"answer"

    behaviour = handler(nature, kind, body)
    for side in sides.of(None, service(kind, behaviour), maximum_concurrent_rpcs=2):
        go.clear()
        calls = [side.start(kind) for _ in range(2)]
        for _ in calls:
            assert begun.acquire(timeout=PATIENCE)

        refused = side.look(kind)
        go.set()

        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
        assert refused.details == "Concurrent RPC limit exceeded!"
        assert [seen(call, kind).messages for call in calls] == [[b"answer"]] * 2
    leaks.eventually(lambda: leaks.counted(sides.stack) == 2, str)


@every_server
@idle_stacks
def test_callback_that_raises_harms_no_other_call(
    nature: str, sides: Sides, grpcs_records: list[tuple[Any, ...]]
) -> None:
    def fail(*_: Any) -> None:
        raise LookupError

    def body(context: Any) -> Any:
        (context.add_done_callback if nature == AIO else context.add_callback)(fail)
        yield b"answer"

    kind = RpcKind.UNARY_UNARY
    told = []
    for side in sides.of(None, service(kind, handler(nature, kind, body))):
        del grpcs_records[:]
        outcomes = [side.look(kind) for _ in range(2)]
        side.close()
        told.append((outcomes, list(grpcs_records)))

    assert told[1] == told[0]
    assert told[0][0][0].messages == [b"answer"]
    assert len(told[0][1]) == 2
