"""A protected sync channel connects, tells of it, and is closed as a bare one."""

from __future__ import annotations

import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import ChannelConnectivity, StatusCode

from . import leaks, pairs
from .backend import PATIENCE, STALL, Backend, RpcKind, expected
from .clients import REQUESTS
from .handlers import plain_handlers
from .pairs import (
    every_kind,
    every_way,
    in_every_style,
    method_of,
    one_attempt,
    requests_of,
    stacks,
    start,
    take,
    told,
)
from .servers import LOOPBACK, SyncServer, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

IMPATIENT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50))
CLOSERS = 4
CLOSED = " on closed channel"
channels = pytest.fixture(pairs.connect)


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens at until a server of the test does."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((LOOPBACK, 0))
        yield reserved.getsockname()[1]


class Watcher:
    """Notes the states of a connection."""

    def __init__(self) -> None:
        self.states: list[ChannelConnectivity] = []
        self.changed = threading.Condition()

    def __call__(self, state: ChannelConnectivity) -> None:
        with self.changed:
            self.states.append(state)
            self.changed.notify_all()

    def wait_for(self, state: ChannelConnectivity) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: state in self.states, PATIENCE), self.states


def _set(heard: threading.Event, _: Any) -> None:
    heard.set()


def _raise(_: ChannelConnectivity) -> None:
    raise ValueError


@every_way
@one_attempt
def test_subscribers_hear_of_the_connection_until_they_unsubscribe(channels: Any) -> None:
    for channel in channels():
        first, second, left = Watcher(), Watcher(), Watcher()

        channel.subscribe(left)
        left.wait_for(ChannelConnectivity.IDLE)
        channel.unsubscribe(left)
        channel.unsubscribe(left)
        channel.subscribe(callback=_raise)
        channel.subscribe(first, try_to_connect=True)
        channel.subscribe(second)

        first.wait_for(ChannelConnectivity.READY)
        second.wait_for(ChannelConnectivity.READY)
        assert left.states == [ChannelConnectivity.IDLE]
        for subscriber in (_raise, first, second):
            channel.unsubscribe(subscriber)


@every_way
@one_attempt
def test_future_of_the_connection_is_done_when_it_is_ready(channels: Any) -> None:
    for channel in channels():
        heard, calls = threading.Event(), list[Any]()
        future = grpc.channel_ready_future(channel)
        future.add_done_callback(calls.append)
        future.add_done_callback(partial(_set, heard))

        assert future.result(PATIENCE) is None
        assert heard.wait(PATIENCE)

        assert calls == [future]
        assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
        assert future.cancel() is False


@every_way
@one_attempt
def test_future_of_a_connection_that_never_comes_is_cancelled(channels: Any, port: int) -> None:
    for channel in channels(f"{LOOPBACK}:{port}"):
        future = grpc.channel_ready_future(channel)
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=0.01)
        assert (future.done(), future.running()) == (False, True)

        assert future.cancel()

        assert (future.done(), future.running(), future.cancelled()) == (True, False, True)


@every_way
@every_kind
@stacks
def test_call_that_waits_for_the_connection_is_answered_once_there_is_a_server(
    kind: RpcKind, channels: Any, port: int, opened: ExitStack
) -> None:
    calls = []
    for channel in channels(f"{LOOPBACK}:{port}", options=IMPATIENT):
        watcher = Watcher()
        channel.subscribe(watcher)
        calls.append(start(channel, kind, wait_for_ready=True, timeout=PATIENCE))
        watcher.wait_for(ChannelConnectivity.TRANSIENT_FAILURE)
        channel.unsubscribe(watcher)

    server = SyncServer(plain_handlers(Backend()), port=port)
    opened.callback(server.close)

    answers = [take(call, kind) for call in calls]
    right = expected(kind, REQUESTS)
    assert answers == [right if kind.streams_responses else right[0]] * 2


@every_way
@every_kind
@stacks
def test_calls_on_a_closed_channel_fail_in_the_same_words(kind: RpcKind, channels: Any) -> None:
    stories = []
    for channel in channels():
        method = method_of(channel, kind)
        channel.close()
        channel.close()
        story = in_every_style(channel, kind, lambda: requests_of(kind), method)
        story += in_every_style(channel, kind, lambda: requests_of(kind))
        # What may be hedged is started as a future, of which gRPC says the same in other words.
        stories.append([(error, text.replace(": Channel closed", CLOSED)) for error, text in story])

    assert stories[1] == stories[0]
    assert {each[0] for each in stories[0]} == {ValueError}
    assert "closed" in stories[0][0][1]


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("by", ["close", "with", "threads"])
def test_closing_cancels_every_call_under_way(
    kind: RpcKind, by: str, channels: Any, backend: Backend
) -> None:
    stories = []
    for channel in channels():
        backend.visits.clear()
        backend.plays(*[STALL] * 3)
        calls = [start(channel, kind) for _ in range(3)]
        backend.wait_until_stalled(3)

        if by == "with":
            with channel as entered:
                assert entered is channel
        elif by == "threads":
            with ThreadPoolExecutor(CLOSERS) as threads:
                for _ in range(CLOSERS):
                    threads.submit(channel.close)
        else:
            channel.close()

        stories.append([told(take, call, kind) for call in calls])
        stories[-1] += [(call.code(), call.details(), call.cancelled()) for call in calls]
        backend.wait_until_gone(3)

    assert stories[1] == stories[0]
    assert stories[0][-1][0] is StatusCode.CANCELLED


@every_way
@every_kind
@stacks
def test_what_a_block_raises_closes_the_channel_and_passes(kind: RpcKind, channels: Any) -> None:
    for channel in channels():
        assert take(start(channel, kind), kind)

        with pytest.raises(KeyError, match="mine"), channel:
            raise KeyError("mine")

        assert "closed" in str(in_every_style(channel, kind, partial(requests_of, kind)))


@every_way
@stacks
def test_channel_that_is_dropped_is_not_kept_alive(
    way: str, policies: Callable[[], Any], target: str, new_stack: Callable[..., Stack]
) -> None:
    inner = grpc.insecure_channel(target)
    reference = weakref.ref(inner)
    channel = pairs.PROTECTED[way](inner, new_stack(policies()))
    method = method_of(channel, RpcKind.UNARY_UNARY)
    assert method(b"a") == b"a"

    del inner, channel, method

    leaks.collect()
    assert reference() is None


@every_way
@every_kind
@stacks
def test_compression_of_the_channel_is_used(
    kind: RpcKind, channels: Any, target: str, opened: ExitStack
) -> None:
    wire = Wire(target)
    opened.callback(wire.cut)
    big, answers = b"x" * 10_000, 3 if kind.streams_responses else 1
    for channel in channels(wire.target, compression=grpc.Compression.Gzip):
        before = wire.carried

        call = start(channel, kind, iter((big,)) if kind.streams_requests else big)
        assert big in (take(call, kind)[0] if kind.streams_responses else take(call, kind))

        # The server does not compress what it answers.
        assert answers * 10_000 <= wire.carried - before < answers * 10_000 + 5_000
