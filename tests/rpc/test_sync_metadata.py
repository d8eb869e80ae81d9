"""Metadata passes through a protected sync channel both ways, at any time, as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from . import pairs
from .backend import PATIENCE, Backend, Play, RpcKind, expected
from .clients import REQUESTS
from .pairs import (
    every_kind,
    every_way,
    metadata_told,
    method_of,
    requests_of,
    response_streams,
    stacks,
    start,
    take,
    told,
    unary_responses,
)
from .servers import SyncServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

HEADERS, TRAILERS = (
    (("early", "1"), ("early", "2"), ("early-bin", b"\xff\x00")),
    (("late", "3"), ("late", "4"), ("late-bin", b"\x00")),
)
OUTCOMES = pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.NOT_FOUND])
channels = pytest.fixture(pairs.connect)


def _mirror() -> grpc.GenericRpcHandler:
    """Return a service that answers with the metadata of the call."""

    def seen(context: Any) -> bytes:
        pairs_seen = [tuple(pair) for pair in context.invocation_metadata()]
        return repr(pairs_seen).encode()

    def unary(_: Any, context: Any) -> bytes:
        return seen(context)

    def stream(_: Any, context: Any) -> Iterator[bytes]:
        yield seen(context)

    def handler(kind: RpcKind) -> Any:
        behaviour = stream if kind.streams_responses else unary
        return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)

    return grpc.method_handlers_generic_handler(
        "test.Scripted", {kind: handler(kind) for kind in RpcKind}
    )


@pytest.fixture
def mirror(opened: ExitStack) -> str:
    server = SyncServer(_mirror())
    opened.callback(server.close)
    return server.target


@every_way
@every_kind
@stacks
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="none"),
        pytest.param((), id="empty"),
        pytest.param((("b", "2"), ("a", "1"), ("b", "3")), id="repeated"),
        pytest.param([("text", "x"), ("bytes-bin", b"\x00\xff")], id="list"),
        pytest.param(((b"key", "x"), ("value", b"y")), id="bytes"),
        pytest.param(grpc.aio.Metadata(("a", "1")), id="asyncio"),
    ],
)
def test_request_metadata_arrives_in_order(
    kind: RpcKind, metadata: Any, channels: Any, mirror: str
) -> None:
    options = (("grpc.primary_user_agent", "mine"),)
    seen = [
        pairs.in_every_style(channel, kind, lambda: requests_of(kind), metadata=metadata)
        for channel in channels(mirror, options=options)
    ]

    assert seen[1] == seen[0]
    assert "'user-agent', 'mine grpc-python" in str(seen[0][0])
    assert all(repr(value)[-3:] in str(seen[0][0]) for _, value in metadata or ())


@every_way
@every_kind
@stacks
def test_metadata_that_can_be_iterated_once_is_sent(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    # A bare channel goes through it more than once, and sends nothing.
    _, channel = channels()
    call = start(channel, kind, metadata=iter((("tenant", "a"),)))

    take(call, kind)

    assert [visit.metadata.get("tenant") for visit in backend.visits] == ["a"]


@every_way
@every_kind
@stacks
@OUTCOMES
def test_metadata_of_the_server_is_there_after_the_end(
    kind: RpcKind, code: StatusCode, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(Play(initial=HEADERS, trailing=TRAILERS, code=code, details="so"))  # type: ignore[arg-type]
        call = start(channel, kind)
        story = [told(take, call, kind)]
        for metadata in (call.initial_metadata(), call.trailing_metadata()):
            story += [metadata_told(metadata), [(pair.key, pair.value) for pair in metadata]]
        stories.append(story)

    assert stories[1] == stories[0]
    assert stories[0][1::2] == [list(HEADERS), list(TRAILERS)]


@every_way
@unary_responses
@stacks
@OUTCOMES
def test_call_that_blocks_tells_the_metadata(
    kind: RpcKind, way: str, code: StatusCode, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(Play(initial=HEADERS, trailing=TRAILERS, code=code))  # type: ignore[arg-type]
        try:
            _, ended = method_of(channel, kind).with_call(requests_of(kind))
        except grpc.RpcError as error:
            ended = error
        stories.append([ended.code(), ended.details()])
        # gRPC's interceptors lose this one of a call that blocks, and not of one that is hedged.
        if hasattr(ended, "debug_error_string") and way == "wrap":
            stories[-1].append(ended.debug_error_string())
        stories[-1] += [metadata_told(ended.initial_metadata())]
        stories[-1] += [metadata_told(ended.trailing_metadata())]

    assert stories[1] == stories[0]
    assert stories[0][-2:] == [list(HEADERS), list(TRAILERS)]


@every_way
@every_kind
@stacks
@OUTCOMES
def test_call_without_metadata_has_empty_metadata(
    kind: RpcKind, code: StatusCode, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.plays(Play(code=code))
        call = start(channel, kind)
        told(take, call, kind)

        assert call.initial_metadata() == ()
        assert call.trailing_metadata() == ()


@every_way
@response_streams
@stacks
def test_headers_of_a_stream_come_before_between_and_after_its_messages(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(Play(initial=HEADERS, messages=2, stalls=True))  # type: ignore[arg-type]
        call = start(channel, kind)
        seen, messages = [call.initial_metadata()], []

        for message in call:
            messages.append(message)
            seen.append(call.initial_metadata())
            if len(messages) == 2:
                backend.wait_until_stalled()
                backend.release()
        seen.append(call.initial_metadata())

        assert messages == expected(kind, REQUESTS, 2)
        assert [metadata_told(headers) for headers in seen] == [list(HEADERS)] * 4


@every_way
@every_kind
@stacks
def test_who_asks_too_early_waits_for_the_end(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        play = Play(messages=0, stalls=True, trailing=TRAILERS, code=StatusCode.ABORTED)
        backend.plays(play)
        call = start(channel, kind)
        backend.wait_until_stalled()
        asked = [call.code, call.details, call.debug_error_string, call.exception]
        with ThreadPoolExecutor(len(asked) + 1) as threads:
            waiting = [threads.submit(ask) for ask in asked]
            trailers = threads.submit(call.trailing_metadata)
            assert not any(each.done() for each in (*waiting, trailers))

            backend.release()

            code, details, debugging, error = (each.result(PATIENCE) for each in waiting)
        stories.append([code, details, debugging, pairs.error_told(error)])
        assert metadata_told(trailers.result()) == list(TRAILERS)

    assert stories[1] == stories[0]
    assert stories[0][0] is StatusCode.ABORTED
