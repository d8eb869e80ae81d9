"""Shares of real calls: what a server sheds, and what a client does not send in the first place."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import CircuitBreaker, LoadShed, Refused, Throttle, wrap_channel
from ninelives_grpc.testing import ScriptedBackend, answer, fail

from .backend import PATIENCE, RpcKind
from .clients import REQUESTS, LoopThread
from .served import service
from .servers import AioServer, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

PATH = RpcKind.UNARY_UNARY.path
CALLS = 400


def echo(request: bytes, _: Any) -> bytes:
    return request


async def aio_echo(request: bytes, _: Any) -> bytes:
    return request


@pytest.mark.parametrize("protected", ["sync", "aio"])
def test_a_server_serves_the_share_that_is_asked_for(
    protected: str, new_stack: Callable[..., Stack], loop: LoopThread, opened: ExitStack
) -> None:
    random.seed(1)
    stack = new_stack(LoadShed(sources=[]))
    stack.policy("load_shed").feel({"memory": 0.8}, 0.0)  # type: ignore[attr-defined]
    server: Any = (
        SyncServer(service(RpcKind.UNARY_UNARY, echo), protection=stack)
        if protected == "sync"
        else AioServer(loop, service(RpcKind.UNARY_UNARY, aio_echo), protection=stack)
    )
    opened.callback(server.close)
    call = opened.enter_context(grpc.insecure_channel(server.target)).unary_unary(PATH)

    futures = [call.future(REQUESTS[0], timeout=PATIENCE) for _ in range(CALLS)]
    codes = [future.code() for future in futures]

    assert set(codes) == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
    # If chance decided on arrival and where the handler runs, it would be a quarter.
    assert codes.count(StatusCode.OK) / CALLS == pytest.approx(0.5, abs=0.12)


def test_a_server_sheds_load_while_its_loop_is_stuck(
    new_stack: Callable[..., Stack], loop: LoopThread, opened: ExitStack
) -> None:
    shed = LoadShed(sources=["loop_lag"], lag_limit=0.01, interval=0.005, rise=100.0)
    stack = new_stack(shed)
    gate: Any = stack.policy("load_shed")

    async def stuck(request: bytes, _: Any) -> bytes:
        while gate.share >= 1.0:
            pass
        return request

    server = AioServer(loop, service(RpcKind.UNARY_UNARY, stuck), protection=stack)
    opened.callback(server.close)
    call = opened.enter_context(grpc.insecure_channel(server.target)).unary_unary(PATH)

    answered = call(REQUESTS[0], timeout=PATIENCE)

    assert answered == REQUESTS[0]
    assert stack.emitter.counts["load_shed", "LoadShedDegraded"] >= 1


def test_a_client_stops_asking_a_server_that_has_too_much_to_do(
    new_stack: Callable[..., Stack], opened: ExitStack
) -> None:
    random.seed(1)
    stack = new_stack(CircuitBreaker(consecutive_failures=1) + Throttle(doubling=3600.0))
    backend = opened.enter_context(ScriptedBackend())
    backend.script(PATH, fail(StatusCode.RESOURCE_EXHAUSTED, pushback=0.1))
    channel = opened.enter_context(grpc.insecure_channel(backend.target))
    call = wrap_channel(channel, stack).unary_unary(PATH)
    errors = []
    for _ in range(CALLS):
        with pytest.raises(grpc.RpcError) as raised:
            call(REQUESTS[0], timeout=PATIENCE)
        errors.append(raised.value)

    ours = [error for error in errors if isinstance(error, Refused)]
    assert len(backend.calls(PATH)) == CALLS - len(ours)
    assert len(ours) > CALLS / 2
    assert {error.policy for error in ours} == {"throttle"}
    # What it refuses says nothing about the backend, and nor does overload.
    assert stack.policy("circuit_breaker").state(0.0)["state"] == "closed"


def test_a_client_sends_all_again_when_the_server_takes_them(
    new_stack: Callable[..., Stack], opened: ExitStack, clock: Any
) -> None:
    stack = new_stack(Throttle(), clock=clock)
    backend = opened.enter_context(ScriptedBackend())
    backend.script(PATH, fail(StatusCode.RESOURCE_EXHAUSTED))
    channel = opened.enter_context(grpc.insecure_channel(backend.target))
    call = wrap_channel(channel, stack).unary_unary(PATH)
    while stack.policy("throttle").state(clock.now())["fraction"] > 0.5:
        with pytest.raises(grpc.RpcError):
            call(REQUESTS[0], timeout=PATIENCE)
    backend.script(PATH, answer(b"x"))
    clock.advance(2.0)

    answers = [call(REQUESTS[0], timeout=PATIENCE) for _ in range(50)]

    assert answers == [b"x"] * 50
    assert stack.emitter.counts["throttle", "ThrottleEnded"] == 1
