"""Request streams of asyncio calls: from iterators and written, as on a bare channel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from .aio_sides import (
    STACKS,
    Side,
    both,
    every_stack,
    every_way,
    many,
    messages,
    outcome,
    request_streams,
    status,
    write_all,
)
from .backend import Play, RpcKind, expected
from .clients import REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ninelives_grpc import Stack


class AsyncIterable:
    """Has a new iterator for everybody who asks."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return many()


class Iterable:
    """As `AsyncIterable`, without asyncio."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(REQUESTS)


class Sequence:
    """Is iterated by index, as Python did first."""

    def __getitem__(self, index: int) -> bytes:
        return REQUESTS[index]


async def _raising(after: int) -> AsyncIterator[bytes]:
    for request in REQUESTS[:after]:
        yield request
    msg = "no more requests"
    raise ValueError(msg)


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: list(REQUESTS),
    "tuple": lambda: tuple(REQUESTS),
    "iterator": lambda: iter(REQUESTS),
    "generator": lambda: (request for request in REQUESTS),
    "async generator": many,
    "async iterable": AsyncIterable,
    "iterable": Iterable,
    "sequence": Sequence,
    "empty": list,
}
BAD_SOURCES: dict[str, Callable[[], Any]] = {
    "raises at once": lambda: _raising(0),
    "raises later": lambda: _raising(2),
    "no iterable": lambda: 5,
    "no bytes": lambda: [b"a", 5],
}


@request_streams
@every_way
@every_stack
@pytest.mark.parametrize("source", [*SOURCES, *BAD_SOURCES])
async def test_requests_are_taken_from_whatever_can_be_iterated(
    kind: RpcKind, way: str, policies: str, source: str, new_stack: Callable[..., Stack]
) -> None:
    make = (SOURCES | BAD_SOURCES)[source]

    async def tell(side: Side) -> Any:
        call = side.start(kind, Style.ITERATE, make())
        return await outcome(messages(call, kind)), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    if source in SOURCES:
        assert theirs[0] == expected(kind, [] if source == "empty" else REQUESTS)
    else:
        assert theirs[0] == (asyncio.CancelledError, "")


@request_streams
@every_way
@every_stack
@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
async def test_writing_after_the_server_has_ended_the_call_is_refused(
    kind: RpcKind, way: str, policies: str, code: StatusCode, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(reads=1, messages=1, code=code, details="so"))
        call = side.start(kind, Style.READ_WRITE)
        await call.write(b"a")
        ended = await outcome(messages(call, kind, Style.READ_WRITE))
        written = await outcome(call.write(b"b"))
        await outcome(call.done_writing())
        return ended, written, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[1] == (asyncio.InvalidStateError, "RPC already finished.")


@request_streams
@every_way
@every_stack
async def test_half_closed_call_takes_no_request_and_is_half_closed_once(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        side.backend.plays(Play(stalls=True))
        call = side.start(kind, Style.READ_WRITE)
        await call.wait_for_connection()
        await write_all(call, kind)
        await side.stalled()
        refused = await outcome(call.write(b"b")), await call.done_writing()
        side.backend.release()
        return refused, await messages(call, kind, Style.READ_WRITE), await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0][0][0] is asyncio.InvalidStateError
    assert theirs[1] == expected(kind, REQUESTS)


@request_streams
@every_way
@every_stack
async def test_one_task_writes_while_another_takes_the_answers(
    kind: RpcKind, way: str, policies: str, new_stack: Callable[..., Stack]
) -> None:
    async def tell(side: Side) -> Any:
        call = side.start(kind, Style.READ_WRITE)
        taking = asyncio.ensure_future(messages(call, kind, Style.READ_WRITE))
        await asyncio.sleep(0)
        await write_all(call, kind)
        return await taking, await status(call)

    theirs, ours = await both(way, new_stack(STACKS[policies]()), tell)

    assert ours == theirs
    assert theirs[0] == expected(kind, REQUESTS)
