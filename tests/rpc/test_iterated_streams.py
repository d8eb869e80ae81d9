"""Response streams that an interceptor of others has made a plain iterator."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, Retry, Timeout, wrap_channel
from ninelives_grpc.interceptors.iterated import IteratedStream

from . import leaks
from .backend import ANSWER, DOWN, STALL, Backend, Play, RpcKind, expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Stack

PATH = RpcKind.UNARY_STREAM.path
with_and_without_retry = pytest.mark.parametrize(
    "policies", [Bulkhead(1), Bulkhead(1) + Timeout(60.0) + Retry()], ids=["once", "retry"]
)


class Generating(grpc.UnaryStreamClientInterceptor):
    """Looks at each message, in the way that comes to mind first."""

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        def messages() -> Iterator[bytes]:
            yield from continuation(details, request)

        return messages()


@pytest.fixture
def channel_of(target: str, opened: Any) -> Callable[[Stack], grpc.Channel]:
    def make(stack: Stack) -> grpc.Channel:
        bare = grpc.intercept_channel(grpc.insecure_channel(target), Generating())
        return opened.enter_context(wrap_channel(bare, stack))

    return make


@with_and_without_retry
def test_it_is_read_to_its_end_and_known_to_have_ended(
    policies: Any, new_stack: Callable[..., Stack], channel_of: Callable[..., grpc.Channel]
) -> None:
    stack = new_stack(policies)

    stream = channel_of(stack).unary_stream(PATH)(b"a")
    messages = list(stream)

    assert messages == expected(RpcKind.UNARY_STREAM, [b"a"])
    assert stream.code() is StatusCode.OK
    assert stream.done()
    assert list(stream) == []
    assert leaks.results(stack) == {("OK", "success"): 1}


def test_it_is_repeated_when_it_fails_before_its_first_message(
    backend: Backend, new_stack: Callable[..., Stack], channel_of: Callable[..., grpc.Channel]
) -> None:
    stack = new_stack(Bulkhead(1) + Retry(initial_backoff=0.0, jitter="none"))
    backend.plays(DOWN, ANSWER)

    messages = list(channel_of(stack).unary_stream(PATH)(b"a"))

    assert messages == expected(RpcKind.UNARY_STREAM, [b"a"])
    assert backend.attempts == 2


def test_its_error_is_raised_with_code_details_and_metadata(
    backend: Backend, new_stack: Callable[..., Stack], channel_of: Callable[..., grpc.Channel]
) -> None:
    backend.plays(
        Play(messages=1, code=StatusCode.ABORTED, details="cut", trailing=(("why", "test"),))
    )
    stack = new_stack(Bulkhead(1))
    stream = channel_of(stack).unary_stream(PATH)(b"a")
    next(stream)

    with pytest.raises(grpc.RpcError) as caught:
        next(stream)

    assert caught.value.code() is stream.code() is StatusCode.ABORTED
    assert stream.details() == "cut"
    assert ("why", "test") in stream.trailing_metadata()
    assert stream.exception() is caught.value


def reading(stream: Any) -> tuple[threading.Thread, list[BaseException]]:
    """Wait for the next message in another thread, and note what is raised instead."""
    caught: list[BaseException] = []

    def read() -> None:
        try:
            next(stream)
        except grpc.RpcError as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, caught


@with_and_without_retry
def test_cancelling_it_wakes_the_thread_that_waits_for_its_second_message(
    policies: Any,
    backend: Backend,
    new_stack: Callable[..., Stack],
    channel_of: Callable[..., grpc.Channel],
) -> None:
    backend.plays(Play(messages=1, stalls=True))
    stream = channel_of(new_stack(policies)).unary_stream(PATH)(b"a")
    next(stream)
    reader, caught = reading(stream)
    backend.wait_until_stalled()

    stream.cancel()

    reader.join()
    assert stream.code() is StatusCode.CANCELLED
    assert len(caught) == 1
    backend.wait_until_gone()


@with_and_without_retry
def test_cancelling_it_gives_its_permit_back_even_when_the_first_message_is_still_to_come(
    policies: Any,
    backend: Backend,
    new_stack: Callable[..., Stack],
    channel_of: Callable[..., grpc.Channel],
) -> None:
    backend.plays(STALL)
    stack = new_stack(policies)
    stream = channel_of(stack).unary_stream(PATH)(b"a")
    reader, caught = reading(stream)
    backend.wait_until_stalled()

    stream.cancel()

    assert not leaks.held(stack)
    backend.release()
    reader.join()
    assert len(caught) == 1


@with_and_without_retry
def test_dropping_it_gives_its_permit_back_and_tells_the_server(
    policies: Any,
    backend: Backend,
    new_stack: Callable[..., Stack],
    channel_of: Callable[..., grpc.Channel],
) -> None:
    backend.plays(Play(messages=1, stalls=True))
    stack = new_stack(policies)
    stream = channel_of(stack).unary_stream(PATH)(b"a")
    next(stream)

    del stream
    leaks.collect()

    leaks.assert_nothing_held([stack])
    backend.wait_until_gone()


def test_an_iterator_that_is_no_generator_ends_as_well() -> None:
    heard: list[str] = []
    stream: IteratedStream[int] = IteratedStream(iter([1, 2]))
    assert stream.add_callback(lambda: heard.append("end"))
    stream.add_done_callback(lambda _: heard.append("done"))
    assert stream.code() is None

    assert list(stream) == [1, 2]

    assert heard == ["end", "done"]
    assert not stream.add_callback(lambda: None)
    assert not stream.cancel()
    assert stream.initial_metadata() == ()
    assert stream.result() is None


def test_cancelling_it_before_its_first_message_starts_nothing() -> None:
    started: list[int] = []

    def messages() -> Iterator[int]:
        started.append(1)
        yield 1

    stream = IteratedStream(messages())

    assert stream.cancel()

    with pytest.raises(grpc.RpcError):
        next(stream)
    assert stream.cancelled()
    assert not started
    assert "CANCELLED" in repr(stream)
