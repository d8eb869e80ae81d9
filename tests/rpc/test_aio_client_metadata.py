"""Metadata, serializers and arguments of asyncio calls: passed on, or refused in gRPC's words."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from .aio_sides import (
    HEADERS,
    STACKS,
    TRAILERS,
    Side,
    both,
    every_kind,
    every_stack,
    every_way,
    many,
    messages,
    outcome,
    pairs,
    response_streams,
    status,
)
from .backend import Play, RpcKind, expected, fail
from .clients import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

METADATA: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (("a-key", "1"), ("b-bin", b"\xff\x00")),
    "list": lambda: [("a-key", "1"), ("b-bin", b"\xff\x00")],
    "pairs are lists": lambda: [["a-key", "1"], ["b-bin", b"\xff\x00"]],
    "metadata": lambda: grpc.aio.Metadata(("a-key", "1"), ("b-bin", b"\xff\x00")),
    "value is bytes": lambda: (("a-key", b"1"), ("b-bin", b"\xff\x00")),
}
NO_METADATA: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "empty": lambda: (),
    "empty metadata": grpc.aio.Metadata,
}
BAD_METADATA: dict[str, Callable[[], Any]] = {
    "numbers": lambda: ((42, 42),),
    "no key": lambda: ((None, "1"),),
    "value is an object": lambda: (("a-key", object),),
    "three": lambda: (("a", "b", "c"),),
    "upper case": lambda: (("A-Key", "1"),),
    "space": lambda: (("a key", "1"),),
    "empty key": lambda: (("", "1"),),
    "line break": lambda: (("a-key", "a\nb"),),
    "text": lambda: "abc",
    "number": lambda: 5,
}


def _same(told: Any) -> str:
    """Return what is told without the addresses of gRPC's objects."""
    return re.sub(r"0x[0-9a-f]+", "_", repr(told))


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("given", [*METADATA, *NO_METADATA])
async def test_metadata_goes_to_the_server_in_every_form(
    kind: RpcKind, way: str, policies: str, given: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind, metadata=(METADATA | NO_METADATA)[given]())
        taken = await messages(call, kind)
        seen = side.backend.visits[0].metadata
        return taken, {key: value for key, value in seen.items() if key != "user-agent"}

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] == ({"a-key": "1", "b-bin": b"\xff\x00"} if given in METADATA else {})


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("given", BAD_METADATA)
async def test_bad_metadata_is_refused_alike(
    kind: RpcKind, way: str, policies: str, given: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        try:
            call = side.start(kind, metadata=BAD_METADATA[given]())
        except (TypeError, ValueError) as error:
            return type(error), str(error)
        ended = await outcome(messages(call, kind))
        call.cancel()
        return ended, side.backend.attempts, await outcome(call.code())

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert _same(ours) == _same(theirs)
    assert "Error" in repr(theirs)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
@pytest.mark.parametrize("first", ["initial_metadata", "trailing_metadata"])
async def test_metadata_of_the_server_can_be_asked_for_at_any_time(
    kind: RpcKind,
    way: str,
    policies: str,
    code: StatusCode,
    first: str,
    new_stack: Callable[..., Stack],
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(
            Play(initial=HEADERS, trailing=TRAILERS, stalls=True, code=code, details="so")
        )
        call = side.start(kind)
        asked = [asyncio.ensure_future(getattr(call, first)()) for _ in range(2)]
        await side.release_with_headers(call, kind)
        taken = await outcome(messages(call, kind))
        early = pairs(await getattr(call, first)()), [pairs(await each) for each in asked]
        return early, taken, pairs(await call.initial_metadata()), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert set(HEADERS) <= set(theirs[2])
    assert theirs[3][2] == list(TRAILERS)


@every_kind
@every_way
@every_stack
async def test_call_without_headers_has_none_and_ends_as_it_does(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(fail(StatusCode.NOT_FOUND, "é € %41"))
        call = side.start(kind)
        early = pairs(await call.initial_metadata())
        ended = await outcome(messages(call, kind))
        return early, ended, pairs(await call.initial_metadata()), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1][2] == "é € %41"


def _start(side: Side, kind: RpcKind, **options: Any) -> Any:
    method = getattr(side.channel, kind)(kind.path, **options)
    return method(many() if kind.streams_requests else REQUESTS[0])


@every_kind
@every_way
@every_stack
async def test_messages_are_serialized_as_the_stub_says(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        # As generated stubs do.
        options: dict[str, Any] = {"request_serializer": bytes.upper, "_registered_method": True}
        call = _start(side, kind, **options, response_deserializer=bytes.decode)
        return await messages(call, kind), side.backend.visits[0].requests

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    upper = [request.upper() for request in REQUESTS]
    assert theirs[0] == [answer.decode() for answer in expected(kind, upper)]


def _refuse(_: bytes) -> bytes:
    msg = "not today"
    raise ValueError(msg)


@every_kind
@every_way
@every_stack
@pytest.mark.parametrize("where", ["request_serializer", "response_deserializer"])
async def test_message_that_can_not_be_serialized_fails_alike(
    kind: RpcKind, way: str, policies: str, where: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = _start(side, kind, **{where: _refuse})
        ended = await outcome(messages(call, kind))
        again = await outcome(messages(call, kind))
        call.cancel()
        await call.code()
        return ended, again, side.backend.attempts

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    # gRPC logs it, and takes nothing in place of the message.
    assert theirs[0] != expected(kind, REQUESTS)


@response_streams
@every_way
@every_stack
async def test_stream_goes_on_after_a_message_that_can_not_be_read(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        def all_but_one(message: bytes) -> bytes:
            return _refuse(message) if message.startswith(b"1") else message

        call = _start(side, kind, response_deserializer=all_but_one)
        taken = [await outcome(call.read()) for _ in range(3)]
        return taken, await call.read() is grpc.aio.EOF, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    first, _, third = expected(kind, REQUESTS)
    assert theirs[0] == [first, None, third]
