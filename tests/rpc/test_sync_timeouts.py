"""A sync call expires as on a bare channel: at once, half way, and with the same time left."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode

from . import idle, pairs
from .backend import PATIENCE, STALL, Backend, Play, RpcKind
from .pairs import (
    error_told,
    every_kind,
    every_way,
    in_every_style,
    requests_of,
    stacks,
    start,
    take,
    told,
)

channels = pytest.fixture(pairs.connect)
HALF_WAY = Play(messages=2, stalls=True)


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("timeout", [-1, -1e9])
def test_call_that_is_late_before_it_begins_expires(
    kind: RpcKind, timeout: float, channels: Any
) -> None:
    stories = [
        in_every_style(channel, kind, lambda: requests_of(kind), timeout=timeout)
        for channel in channels()
    ]

    assert [each[0] for each in stories[1]] == [each[0] for each in stories[0]]
    assert {each[0] for each in stories[0]} == {StatusCode.DEADLINE_EXCEEDED}


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("timeout", [0, 0.1])
def test_call_expires_half_way(
    kind: RpcKind, timeout: float, channels: Any, backend: Backend
) -> None:
    # One call may come to the server only after the other has begun.
    backend.plays(HALF_WAY, HALF_WAY)
    stories = []
    for channel in channels():
        call = start(channel, kind, timeout=timeout)
        error = told(take, call, kind)
        flags = [call.done(), call.cancelled(), call.is_active(), call.cancel()]
        stories.append([error[0], call.code(), *flags, call.time_remaining()])
        stories[-1].append(error_told(call.exception())[0])

    assert stories[1] == stories[0]
    assert stories[0][:2] == [StatusCode.DEADLINE_EXCEEDED] * 2
    assert stories[0][-2] == 0


@every_way
@every_kind
@idle.stacks("one-attempt", "timeout-retry", "fallback")
@pytest.mark.parametrize("timeout", [None, 1000.0])
def test_time_that_remains_counts_from_the_deadline_of_the_caller(
    kind: RpcKind, timeout: float | None, channels: Any, backend: Backend
) -> None:
    for channel in channels():
        backend.visits.clear()
        backend.plays(STALL)
        call = start(channel, kind, timeout=timeout)
        backend.wait_until_stalled()
        running = call.time_remaining()
        call.cancel()

        ended = call.time_remaining()

        if timeout is None:
            assert (running, ended) == (None, None)
        else:
            assert timeout - PATIENCE < ended <= running <= timeout
