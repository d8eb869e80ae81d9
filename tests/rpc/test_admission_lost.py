"""Thousands of calls that expire or are cancelled while they wait, and not a place that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import AdmissionExecutor, AdmissionQueue, aio, server_interceptor

from . import leaks
from .backend import PATIENCE, STALL, Backend, RpcKind
from .clients import REQUESTS
from .handlers import async_handlers, plain_handlers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .clients import LoopThread

CALLS = 5000
"""To each server: half of them expire, and half are cancelled."""
CROWD = 500
"""At once: gRPC refuses some of its own accord while a thousand wait to be looked at."""
PLACES = 4


@pytest.fixture(params=["sync", "aio"])
def target(
    request: pytest.FixtureRequest, stack: Stack, backend: Backend, opened: Any, loop: LoopThread
) -> str:
    """Start a server of either kind, and return its address."""
    if request.param == "sync":
        pool = opened.enter_context(AdmissionExecutor(PLACES))
        server = grpc.server(pool, interceptors=[server_interceptor(stack)])
        server.add_generic_rpc_handlers((plain_handlers(backend),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        opened.callback(lambda: server.stop(None).wait())
    else:

        async def start() -> Any:
            made = grpc.aio.server(interceptors=[aio.server_interceptor(stack)])
            made.add_generic_rpc_handlers((async_handlers(backend),))
            port = made.add_insecure_port("127.0.0.1:0")
            await made.start()
            return made, port

        made, port = loop.run(start())
        opened.callback(lambda: loop.run(made.stop(None)))
    opened.callback(backend.release)
    return f"127.0.0.1:{port}"


@pytest.fixture
def stack(new_stack: Callable[..., Stack]) -> Stack:
    patient = {"default_wait": 600.0, "over_after": 600.0}
    made: Stack = new_stack(AdmissionQueue(PLACES, max_queue=CALLS, **patient))
    return made


def wait_until_queued(gate: Any, calls: int) -> None:
    """Wait until so many are in line."""
    leaks.eventually(lambda: gate.state(0.0)["queued"] >= calls, lambda: gate.state(0.0))


def test_no_place_is_lost_when_calls_expire_or_are_cancelled_while_they_wait(
    stack: Stack, backend: Backend, opened: ExitStack, target: str
) -> None:
    channel = opened.enter_context(grpc.insecure_channel(target))
    call: Any = channel.unary_unary(RpcKind.UNARY_UNARY.path)
    gate: Any = stack.policy("admission_queue")
    backend.plays(*[STALL] * PLACES)
    running = [call.future(REQUESTS[0]) for _ in range(PLACES)]
    backend.wait_until_stalled(PLACES)

    expire: list[Any] = []
    cancelled: list[Any] = []
    for _ in range(CALLS // CROWD):
        expire += [call.future(REQUESTS[0], timeout=0.2) for _ in range(CROWD // 2)]
        cancelled += [call.future(REQUESTS[0]) for _ in range(CROWD // 2)]
        wait_until_queued(gate, len(cancelled))
    for waiting in cancelled:
        waiting.cancel()
    codes = {waiting.code() for waiting in expire}
    backend.release()

    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {answer.code() for answer in running} == {grpc.StatusCode.OK}
    leaks.assert_nothing_held([stack])
    for _ in range(2 * PLACES):
        assert call(REQUESTS[0], timeout=PATIENCE) == REQUESTS[0]
