"""What is wrong with a call is told by a protected channel as by a bare one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from . import leaks, pairs
from .backend import Backend, Play, RpcKind, fail
from .pairs import (
    every_kind,
    every_way,
    in_every_style,
    method_of,
    one_attempt,
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

channels = pytest.fixture(pairs.connect)


def _refuse(_: bytes) -> bytes:
    msg = "not today"
    raise ValueError(msg)


def _nothing(_: bytes) -> None:
    return None


def _interrupted() -> Iterator[bytes]:
    yield b"a"
    raise ValueError


def _codes(stories: list[Any]) -> set[Any]:
    """Return the codes of what failed."""
    return {each[0] if isinstance(each, tuple) else each for each in stories}


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("serializer", [_refuse, _nothing])
def test_request_without_serialized_form_fails_at_once(
    kind: RpcKind, serializer: Any, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        method = method_of(channel, kind, request_serializer=serializer)
        stories.append(in_every_style(channel, kind, lambda: requests_of(kind), method))

    assert stories[1] == stories[0]
    assert _codes(stories[0]) == {StatusCode.INTERNAL}
    assert not any(visit.requests for visit in backend.visits)


@every_way
@every_kind
@stacks
def test_none_is_no_request(kind: RpcKind, channels: Any) -> None:
    def nothing() -> Any:
        return iter((None,)) if kind.streams_requests else None

    stories = [in_every_style(channel, kind, nothing) for channel in channels()]

    assert stories[1] == stories[0]
    assert _codes(stories[0]) == {StatusCode.INTERNAL}


@every_way
@unary_responses
@stacks
@pytest.mark.parametrize("deserializer", [_refuse, _nothing])
def test_response_that_can_not_be_read_fails_the_call(
    kind: RpcKind, deserializer: Any, channels: Any
) -> None:
    stories = []
    for channel in channels():
        method = method_of(channel, kind, response_deserializer=deserializer)
        stories.append(in_every_style(channel, kind, lambda: requests_of(kind), method))

    assert stories[1] == stories[0]
    assert _codes(stories[0]) == {StatusCode.INTERNAL}


@every_way
@response_streams
@one_attempt
@pytest.mark.parametrize("readable", [0, 1])
def test_message_that_can_not_be_read_ends_the_stream(
    kind: RpcKind, readable: int, channels: Any
) -> None:
    def unreadable(message: bytes) -> bytes:
        return message if message.startswith(b"0") and readable else _refuse(message)

    stories = []
    for channel in channels():
        call = method_of(channel, kind, response_deserializer=unreadable)(requests_of(kind))
        story = [told(next, call) for _ in range(readable + 2)]
        story += [call.code(), call.details(), call.done(), call.cancelled()]
        stories.append(story)
        # gRPC itself never ends such a call, and only a circle holds it: its error's traceback.
        del call
        leaks.collect()

    assert stories[1] == stories[0]
    assert stories[0][-4] is StatusCode.INTERNAL


@every_way
@request_streams
@stacks
@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(object, id="object"),
        pytest.param(lambda: [b"a"], id="list"),
        pytest.param(lambda: None, id="none"),
        pytest.param(_interrupted, id="raises"),
    ],
)
def test_requests_that_can_not_be_iterated_fail_the_call(
    kind: RpcKind, requests: Callable[[], Any], channels: Any
) -> None:
    stories = [in_every_style(channel, kind, requests) for channel in channels()]

    assert [each[:2] for each in stories[1]] == [each[:2] for each in stories[0]]
    assert _codes(stories[0]) == {StatusCode.UNKNOWN}


@every_way
@every_kind
@stacks
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((("UPPER", "x"),), id="key"),
        pytest.param((("key", "x", "y"),), id="three"),
        pytest.param((("key", 5),), id="number"),
        pytest.param((("key-bin", "text"),), id="text-as-binary"),
        pytest.param(42, id="no-metadata"),
    ],
)
def test_invalid_metadata_raises_the_same_error(
    kind: RpcKind, metadata: Any, channels: Any, backend: Backend
) -> None:
    stories = [
        in_every_style(channel, kind, lambda: requests_of(kind), metadata=metadata)
        for channel in channels()
    ]

    assert stories[1] == stories[0]
    assert all(isinstance(each, tuple) for each in stories[0])
    assert backend.attempts == 0


@every_way
@every_kind
@stacks
@pytest.mark.parametrize(
    "options",
    [{"timeout": "soon"}, {"compression": "tight"}, {"credentials": "trust me"}],
    ids=str,
)
def test_option_of_a_wrong_type_raises_the_same_error(
    kind: RpcKind, options: dict[str, Any], channels: Any, backend: Backend
) -> None:
    stories = [
        in_every_style(channel, kind, lambda: requests_of(kind), **options)
        for channel in channels()
    ]

    assert [_codes(story) for story in stories] == [_codes(stories[0])] * 2
    assert _codes(stories[0]) <= {TypeError, AttributeError, KeyError}
    assert backend.attempts == 0


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("limit", ["send", "receive"])
def test_message_over_a_limit_fails_in_the_same_words(
    kind: RpcKind, limit: str, channels: Any
) -> None:
    options = ((f"grpc.max_{limit}_message_length", 0),)
    stories = [
        in_every_style(channel, kind, lambda: requests_of(kind))
        for channel in channels(options=options)
    ]

    assert stories[1] == stories[0]
    assert _codes(stories[0]) == {StatusCode.RESOURCE_EXHAUSTED}


@every_way
@every_kind
@stacks
@pytest.mark.parametrize(
    "play",
    [
        pytest.param(fail(StatusCode.NOT_FOUND, "”é\x80"), id="details"),
        pytest.param(
            Play(code=StatusCode.ABORTED, trailing=(("why-bin", b"\x00"),)), id="trailing"
        ),
        pytest.param(Play(messages=0, raises=ValueError, details="oh"), id="raises"),
        pytest.param(Play(code=StatusCode.DATA_LOSS, initial=(("x", "1"),)), id="late"),
    ],
)
def test_error_of_the_server_says_the_same(
    kind: RpcKind, play: Play, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.plays(*[play] * 4)
        call = start(channel, kind)
        story = [told(take, call, kind)]
        story += in_every_style(channel, kind, lambda: requests_of(kind))
        backend.script.clear()
        story += [call.code(), call.details(), call.debug_error_string()]
        error = call.exception()
        story += [str(error).partition(" of RPC")[2], pairs.error_told(error)]
        stories.append(story)

    assert stories[1] == stories[0]
    assert play.details in stories[0][-4]
