"""One stack in several event loops, each in a thread of its own: gates are shared, loops are not.

The loops run in asyncio's debug mode, which raises when one is woken from another's thread.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

import pytest
from grpc import StatusCode

from ninelives_grpc import Bulkhead, CircuitBreaker, RateLimit, Refused, Retry, Timeout

from . import clients, leaks
from .backend import DOWN, PATIENCE, STALL, Backend, RpcKind, expected
from .clients import REQUESTS, AioClient, LoopThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

KIND = RpcKind.UNARY_UNARY
AT_ONCE: dict[str, Any] = {"initial_backoff": 0.0, "jitter": "none"}
either_client = pytest.mark.parametrize("protected", ["aio-wrap", "aio-interceptor"])


@pytest.fixture
def loops() -> Iterator[tuple[LoopThread, LoopThread]]:
    """Two event loops that notice when they are touched from outside."""
    both = LoopThread(), LoopThread()
    for loop in both:
        loop.loop.set_debug(True)
    yield both
    for loop in both:
        leaks.eventually(lambda loop=loop: not loop.call(leaks.tasks, loop.loop), str)
        loop.close()


@pytest.fixture
def connect_both(
    target: str, loops: tuple[LoopThread, LoopThread], opened: ExitStack
) -> Callable[[str, Stack], list[AioClient]]:
    """Make a client in each loop."""

    def connect(protected: str, stack: Stack) -> list[AioClient]:
        made = [clients.PROTECTED[protected](target, stack, loop) for loop in loops]
        for client in made:
            opened.callback(client.close)
        return made

    return connect


def queued(stack: Stack) -> object:
    return stack.state().policies[0].values["queued"]


@either_client
@pytest.mark.parametrize("first", [0, 1])
def test_a_call_that_waits_in_one_loop_is_let_in_when_one_ends_in_the_other(
    protected: str,
    first: int,
    backend: Backend,
    new_stack: Callable[..., Stack],
    connect_both: Callable[..., list[AioClient]],
) -> None:
    stack = new_stack(Bulkhead(1, max_queue=1, max_wait=PATIENCE))
    made = connect_both(protected, stack)
    backend.plays(STALL)
    holding = made[first].start(KIND, made[first].styles(KIND)[0])
    backend.wait_until_stalled()
    waiting = made[1 - first].start(KIND, made[1 - first].styles(KIND)[0])
    leaks.eventually(lambda: queued(stack), str)

    backend.release()

    assert holding.result().error is None
    assert waiting.result().messages == expected(KIND, REQUESTS)
    assert backend.attempts == 2


@either_client
def test_a_circuit_opened_by_failures_in_one_loop_refuses_in_the_other(
    protected: str,
    backend: Backend,
    new_stack: Callable[..., Stack],
    connect_both: Callable[..., list[AioClient]],
) -> None:
    breaker = CircuitBreaker(consecutive_failures=2, open_duration=5.0, jitter=0.0)
    here, there = connect_both(protected, new_stack(breaker))
    backend.plays(DOWN, DOWN)
    for _ in range(2):
        here.start(KIND, here.styles(KIND)[0]).result()

    refused = there.start(KIND, there.styles(KIND)[0]).result()

    assert isinstance(refused.error, Refused)
    assert refused.code is StatusCode.UNAVAILABLE
    assert backend.attempts == 2


@either_client
def test_hundreds_of_calls_in_two_loops_share_four_places_and_leave_none_taken(
    protected: str,
    backend: Backend,
    new_stack: Callable[..., Stack],
    connect_both: Callable[..., list[AioClient]],
) -> None:
    stack = new_stack(
        Bulkhead(4, max_queue=1000, max_wait=PATIENCE)
        + Timeout(PATIENCE)
        + Retry(**AT_ONCE)
        + RateLimit(1e6, 1000)
    )
    made = connect_both(protected, stack)
    backend.plays(DOWN, DOWN)

    running = [client.start(KIND, client.styles(KIND)[0]) for _ in range(100) for client in made]

    assert {call.result().code for call in running} == {StatusCode.OK}
    assert backend.attempts == 202
    assert leaks.results(stack) == {("OK", "success"): 200}


def test_functions_in_two_loops_and_a_thread_take_turns(
    new_stack: Callable[..., Stack], loops: tuple[LoopThread, LoopThread]
) -> None:
    stack = new_stack(Bulkhead(1, max_queue=100, max_wait=PATIENCE))
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)

    def leave() -> None:
        nonlocal inside
        inside -= 1

    async def work() -> None:
        enter()
        await asyncio.sleep(0)
        leave()

    def work_in_thread() -> None:
        enter()
        leave()

    async def many() -> None:
        await asyncio.gather(*(stack.acall(work) for _ in range(30)))

    threads = [threading.Thread(target=stack.call, args=(work_in_thread,)) for _ in range(30)]
    started: list[Future[None]] = [
        asyncio.run_coroutine_threadsafe(many(), loop.loop) for loop in loops
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = wait(started, PATIENCE)

    assert not ended.not_done
    assert [future.exception() for future in started] == [None, None]
    assert (inside, most) == (0, 1)
    assert leaks.results(stack) == {("OK", "success"): 90}


def test_a_waiter_whose_loop_is_gone_leaves_its_place_to_the_next(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(Bulkhead(1, max_queue=2, max_wait=PATIENCE))
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(PATIENCE)

    holder = threading.Thread(target=stack.call, args=(hold,))
    holder.start()
    entered.wait(PATIENCE)

    async def give_up() -> None:
        waiting = asyncio.ensure_future(stack.acall(asyncio.sleep, 0))
        await asyncio.sleep(0)
        assert queued(stack)
        assert not waiting.done()

    asyncio.run(give_up())
    leave.set()
    holder.join()

    assert stack.call(len, "abc") == 3
