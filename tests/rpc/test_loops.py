"""A loop over the stack of a real channel goes by real calls."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from ninelives_grpc import Bulkhead, FeedbackLoop, Retry, Stack, laws, wrap_channel
from ninelives_grpc.testing import ScriptedBackend, VirtualClock, answer, assert_settled, fail

if TYPE_CHECKING:
    from ninelives_grpc import Registry

GET = "/shop.Cart/Get"


def test_a_retry_budget_and_a_bulkhead_follow_what_a_server_answers(registry: Registry) -> None:
    clock = VirtualClock()
    stack = Stack("cart", Retry(1) + Bulkhead(10), clock=clock, registry=registry)
    ratio = stack.parameters["retry_budget/ratio"]
    size = stack.parameters["bulkhead/max_concurrent"]
    loops = [
        FeedbackLoop(laws.RetryBudgetLaw(smoothing=1.0), ratio, interval=1.0),
        FeedbackLoop(laws.AimdLaw(backoff=0.5), size, interval=1.0),
    ]
    for loop in loops:
        registry.add_loop(loop, start=False)
    with ScriptedBackend() as backend:
        channel = wrap_channel(grpc.insecure_channel(backend.target), stack)
        with channel:
            get = channel.unary_unary(GET)
            found = []
            for failing in (0, 10):
                replies = [fail(grpc.StatusCode.INTERNAL)] * failing
                backend.script(GET, *replies, *[answer(b"cart")] * (20 - failing))
                for _ in range(20):
                    with contextlib.suppress(grpc.RpcError):
                        get(b"me")
                clock.advance(1.0)
                for loop in loops:
                    loop.tick(clock.now())
                found.append((ratio.get(), size.get()))

    # All is well and the bulkhead hardly used; then half of the calls fail.
    assert found == [(pytest.approx(0.2), 10), (pytest.approx(0.01), 5)]
    assert_settled(stack)
