"""What is sent with an attempt, and when the next one follows."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from ninelives_grpc import Retry, RetryBudget, wrap_channel
from ninelives_grpc.testing import MemorySink

from .backend import ANSWER, DOWN, RpcKind, expected, fail
from .clients import PROTECTED, REQUESTS, Style

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc import Stack

    from .backend import Backend
    from .clients import Client

UNARY = (RpcKind.UNARY_UNARY, Style.FUTURE)
AT_ONCE: dict[str, Any] = {"initial_backoff": 0.0, "jitter": "none"}
every_client = pytest.mark.parametrize("protected", PROTECTED)
metadata_types = pytest.mark.parametrize(
    "make",
    [
        pytest.param(tuple, id="tuple"),
        pytest.param(list, id="list"),
        pytest.param(iter, id="iterator"),
        pytest.param(lambda pairs: grpc.aio.Metadata(*pairs), id="aio-metadata"),
    ],
)


@every_client
@metadata_types
def test_metadata_of_every_type_is_sent_with_every_attempt(
    protected: str,
    make: Callable[..., Any],
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(3, **AT_ONCE)))
    backend.plays(DOWN, DOWN, ANSWER)

    running = client.start(*UNARY, metadata=make([("tenant", "a"), ("blob-bin", b"\x00\xff")]))

    assert running.result().error is None
    assert [(visit.metadata["tenant"], visit.metadata["blob-bin"]) for visit in backend.visits] == [
        ("a", b"\x00\xff")
    ] * 3


@every_client
def test_attempts_are_numbered_from_the_second_on(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(3, **AT_ONCE)))
    backend.plays(DOWN, DOWN)

    client.start(*UNARY).result()

    numbers = [visit.metadata.get("x-ninelives-attempt") for visit in backend.visits]
    assert numbers == [None, "2", "3"]


@every_client
def test_pushback_is_waited_for_instead_of_the_backoff(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    sink = MemorySink()
    stack = new_stack(Retry(3, initial_backoff=30.0, max_backoff=30.0, jitter="none"), sink=sink)
    client = connect(protected, stack)
    backend.plays(
        fail(StatusCode.UNAVAILABLE, pushback=60), fail(StatusCode.RESOURCE_EXHAUSTED, pushback=20)
    )

    running = client.start(*UNARY).result()

    assert running.error is None
    waits = [later.at - earlier.at for earlier, later in itertools.pairwise(backend.visits)]
    assert 0.06 <= waits[0] < 5.0
    assert 0.02 <= waits[1] < 5.0
    assert [event.details()["delay"] for event in sink.events] == [0.06, 0.02]


@every_client
@pytest.mark.parametrize("pushback", [-1, 70_000])
def test_pushback_that_forbids_a_retry_leaves_the_error_as_it_is(
    protected: str,
    pushback: int,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(3, **AT_ONCE, max_pushback=60.0)))
    backend.plays(fail(StatusCode.UNAVAILABLE, "no", pushback=pushback))

    running = client.start(*UNARY).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "no")
    assert running.trailing["grpc-retry-pushback-ms"] == str(pushback)
    assert backend.attempts == 1


@every_client
def test_overload_without_a_pushback_is_not_repeated(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(3, **AT_ONCE)))
    backend.plays(fail(StatusCode.RESOURCE_EXHAUSTED, "full"))

    running = client.start(*UNARY).result()

    assert running.code is StatusCode.RESOURCE_EXHAUSTED
    assert backend.attempts == 1


@every_client
def test_budget_ends_the_retries_with_the_error_of_the_server(
    protected: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    budget = RetryBudget(capacity=2.0, threshold=0.5)
    client = connect(protected, new_stack(Retry(10, **AT_ONCE, budget=budget)))
    backend.plays(*[DOWN] * 10)

    running = client.start(*UNARY).result()

    assert (running.code, running.details) == (StatusCode.UNAVAILABLE, "down")
    assert backend.attempts == 2


@pytest.mark.parametrize("protected", ["aio-wrap", "aio-interceptor"])
@pytest.mark.parametrize("kind", [RpcKind.STREAM_UNARY, RpcKind.STREAM_STREAM])
def test_attempt_whose_status_grpc_has_lost_is_repeated(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    # A write that fails because the server has ended the call hides the reason (about half of the
    # time): then the client sees INTERNAL instead of UNAVAILABLE.
    client = connect(protected, new_stack(Retry(3, **AT_ONCE, budget=RetryBudget(cost=0.0))))
    requests = [b"x" * 4096] * 20
    for _ in range(20):
        backend.plays(fail(StatusCode.UNAVAILABLE, "busy", reads=0), ANSWER)

        running = client.start(kind, Style.ITERATE, requests).result()

        assert running.error is None
        assert running.messages == expected(kind, requests)


@pytest.mark.parametrize("protected", PROTECTED)
@pytest.mark.parametrize("kind", RpcKind)
def test_codes_beyond_unavailable_are_repeated_only_when_that_is_known_to_do_no_harm(
    protected: str,
    kind: RpcKind,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    retry = Retry(2, **AT_ONCE, idempotent=[f"test.Scripted/{kind}"])
    client = connect(protected, new_stack(retry))
    style = client.styles(kind)[-1]
    other = RpcKind.UNARY_UNARY if kind is not RpcKind.UNARY_UNARY else RpcKind.UNARY_STREAM
    backend.plays(fail(StatusCode.INTERNAL), ANSWER, fail(StatusCode.INTERNAL))

    running = client.start(kind, style).result()
    elsewhere = client.start(other, client.styles(other)[-1]).result()

    assert running.messages == expected(kind, REQUESTS)
    assert elsewhere.code is StatusCode.INTERNAL
    assert backend.attempts == 3


async def test_zero_backoff_repeats_without_starving_the_loop(
    target: str, new_stack: Callable[..., Stack], backend: Backend
) -> None:
    stack = new_stack(Retry(50, **AT_ONCE, budget=RetryBudget(cost=0.0)))
    backend.plays(*[DOWN] * 49)
    async with wrap_channel(grpc.aio.insecure_channel(target), stack) as channel:
        call = asyncio.ensure_future(_await(channel.unary_unary(RpcKind.UNARY_UNARY.path)(b"a")))
        turns = 0
        while not call.done():
            turns += 1
            await asyncio.sleep(0)

        assert await call == b"a"
        assert turns > 50


async def _await(call: Any) -> Any:
    return await call
