"""Whatever a protected handler does with its messages comes out as on a bare server."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .backend import PATIENCE, RpcKind
from .clients import REQUESTS
from .served import STREAMS, every_handler, idle_stacks, method_handler, of_each, pair, service
from .steps import AIO, PLAIN, READ, SYNC, handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .served import Sides
    from .steps import Body, Steps

sides = pytest.fixture(pair)


def _echo(_: Any) -> Steps:
    while (request := (yield READ)) is not None:
        yield request


def _never_read(_: Any) -> Steps:
    yield b"unread"


def _read_one(_: Any) -> Steps:
    request = yield READ
    yield request


def _read_past_the_end(_: Any) -> Steps:
    while (yield READ) is not None:
        pass
    for _again in range(3):
        assert (yield READ) is None
    yield b"all"


def _send_nothing(_: Any) -> Steps:
    while (yield READ) is not None:
        pass


def _send_empty(_: Any) -> Steps:
    yield b""


def _raise_between_requests(_: Any) -> Steps:
    yield READ
    msg = "half way"
    raise LookupError(msg)


def _send_much(_: Any) -> Steps:
    for number in range(200):
        yield b"%d" % number * 50


BODIES: dict[str, Body] = {
    body.__name__.removeprefix("_"): body
    for body in (
        _echo,
        _never_read,
        _read_one,
        _read_past_the_end,
        _send_nothing,
        _send_empty,
        _raise_between_requests,
        _send_much,
    )
}


@every_handler
@idle_stacks
def test_messages_go_both_ways_as_without_us(nature: str, kind: RpcKind, sides: Sides) -> None:
    bare, protected = of_each(nature, kind, BODIES, sides)

    assert protected == bare
    assert b"".join(bare["echo"].messages) == b"".join(
        REQUESTS if kind.streams_requests else REQUESTS[:1]
    )
    assert bare["raise_between_requests"].code is StatusCode.UNKNOWN


def _refuse(_: Any) -> Any:
    msg = "can not be read"
    raise ValueError(msg)


@every_handler
@idle_stacks
@pytest.mark.parametrize("fails", ["request_deserializer", "response_serializer"])
def test_message_that_can_not_be_converted_ends_the_call_as_without_us(
    nature: str, kind: RpcKind, fails: str, sides: Sides
) -> None:
    if nature == SYNC and kind.streams_requests and fails == "request_deserializer":
        pytest.skip("gRPC sends two statuses, and its server can not be stopped any more")
    method = method_handler(kind, handler(nature, kind, _echo), **{fails: _refuse})
    methods = grpc.method_handlers_generic_handler("test.Scripted", {kind: method})

    bare, protected = (side.look(kind) for side in sides.of(None, methods))

    assert protected == bare
    assert bare.code is not StatusCode.OK


@pytest.mark.parametrize("nature", [SYNC, AIO, PLAIN])
@pytest.mark.parametrize("kind", [RpcKind.UNARY_UNARY, RpcKind.STREAM_UNARY])
@idle_stacks
@pytest.mark.parametrize("wrong", [None, 5, b"bytes"])
def test_wrong_response_ends_the_call_as_without_us(
    nature: str, kind: RpcKind, wrong: object, sides: Sides
) -> None:
    async def answer(*_: Any) -> object:
        return wrong

    behaviour = answer if nature == AIO else lambda *_: wrong

    method = method_handler(kind, behaviour, response_serializer=str.encode)
    methods = grpc.method_handlers_generic_handler("test.Scripted", {kind: method})

    bare, protected = (side.look(kind) for side in sides.of(None, methods))

    assert protected == bare
    assert bare.code is not StatusCode.OK


@pytest.mark.parametrize("nature", [AIO])
@pytest.mark.parametrize("kind", STREAMS)
@idle_stacks
def test_handler_may_mix_iterating_with_reading_and_writing(kind: RpcKind, sides: Sides) -> None:
    async def mix(requests: Any, context: Any) -> AsyncIterator[bytes]:
        if kind.streams_requests:
            yield b"read " + await context.read()
            async for request in requests:
                await context.write(request)
        yield b"yielded"
        await context.write(b"written")

    bare, protected = (side.look(kind) for side in sides.of(None, service(kind, mix)))

    assert protected == bare
    assert bare.messages[-2:] == [b"yielded", b"written"]


@every_handler
@idle_stacks
def test_handlers_run_at_the_same_time(nature: str, kind: RpcKind, sides: Sides) -> None:
    met: Any = threading.Barrier(5)
    arrived: list[asyncio.Event] = []

    async def meet() -> None:
        arrived.append(asyncio.Event())
        if len(arrived) == 5:
            for each in arrived:
                each.set()
        await arrived[-1].wait()

    def body(_: Any) -> Steps:
        yield met.wait(PATIENCE) and None if nature in {SYNC, PLAIN} else meet()
        yield b"met"

    for side in sides.of(None, service(kind, handler(nature, kind, body))):
        del arrived[:]
        calls = [side.start(kind, timeout=PATIENCE) for _ in range(5)]
        for call in calls:
            assert list(call) == [b"met"] if kind.streams_responses else call.result(PATIENCE)


VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


@every_handler
@idle_stacks
def test_context_variable_keeps_its_value_through_a_handler(
    nature: str, kind: RpcKind, sides: Sides
) -> None:
    told: list[list[str]] = []

    def body(_: Any) -> Steps:
        told.append([VARIABLE.get()])
        token = VARIABLE.set("set")
        yield b"first"
        told[-1].append(VARIABLE.get())
        yield READ
        told[-1].append(VARIABLE.get())
        VARIABLE.reset(token)
        told[-1].append(VARIABLE.get())

    bare, protected = (
        side.look(kind) for side in sides.of(None, service(kind, handler(nature, kind, body)))
    )

    assert protected == bare
    assert told == [["unset", "set", "set", "unset"]] * 2
