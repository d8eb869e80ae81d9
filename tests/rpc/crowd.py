"""Many callers at once who do as they like: wait, cancel, give up, walk away."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import grpc
from grpc import StatusCode

from ninelives_grpc.priority import PRIORITY_KEY

from .backend import RpcKind
from .clients import CALLERS, AioClient, Style, SyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from .clients import Client

ORDERS = {b"answer": 80, b"linger": 12, b"down": 5, b"busy": 3}
"""What a request asks the handler to do, and how often of a hundred."""
WHIMS = {"stay": 70, "cancel": 15, "walk away": 15}
RANKS = ("critical", "high", "normal", "background")
"""What a call may say of its priority."""
EXPECTED = (grpc.RpcError, grpc.FutureCancelledError, asyncio.CancelledError, CancelledError)
"""What a caller may see: errors of calls, and that it has cancelled them."""
_LINGER = 0.02


def choose(chance: random.Random, weights: dict[Any, int]) -> Any:
    """Choose one by weight."""
    return chance.choices(list(weights), list(weights.values()))[0]


class Crowd:
    """Makes so many calls, a bounded number at once.

    Attributes:
        made: How many have been made; `progress` is notified.
        clients: Who makes them; the flag tells those that are for unary responses only.
        surprises: What was raised that no caller should see.
    """

    def __init__(self, seed: int, clients: list[tuple[Client, bool]], calls: int) -> None:
        """Prepare to call."""
        self.made = 0
        self.progress = threading.Condition()
        self.surprises: list[BaseException] = []
        self.clients = clients
        self._seed = seed
        self._left = iter(range(calls))
        self._lock = threading.Lock()

    def work(self, number: int) -> None:
        """Make calls in this thread until all are made."""
        sync = [client for client in self.clients if isinstance(client[0], SyncClient)]
        for chance in self._turns(number):
            client, unary = chance.choice(sync)
            with self._watched():
                _call(client, _kind(chance, unary=unary), chance)

    async def work_async(self, number: int) -> None:
        """Make calls in this task until all are made."""
        aio = [client for client in self.clients if isinstance(client[0], AioClient)]
        for chance in self._turns(number):
            client, unary = chance.choice(aio)
            call = _call_async(client, _kind(chance, unary=unary), chance)
            task = asyncio.get_running_loop().create_task(call)
            if chance.random() < 0.1:
                asyncio.get_running_loop().call_later(chance.random() * _LINGER, task.cancel)
            with self._watched():
                await task

    def wait_for(self, made: int) -> None:
        """Wait until so many calls have been made."""
        with self.progress:
            self.progress.wait_for(lambda: self.made >= made or self.surprises)

    def _turns(self, number: int) -> Iterator[random.Random]:
        chance = random.Random(f"{self._seed}/{number}")
        while True:
            with self._lock:
                if next(self._left, None) is None:
                    return
            yield chance
            with self.progress:
                self.made += 1
                self.progress.notify_all()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except EXPECTED:
            pass
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.surprises.append(error)


def _kind(chance: random.Random, *, unary: bool) -> RpcKind:
    return chance.choice([kind for kind in RpcKind if not (unary and kind.streams_responses)])


def _requests(chance: random.Random) -> list[bytes]:
    return [choose(chance, ORDERS) for _ in range(chance.randint(1, 3))]


def _timeout(chance: random.Random) -> float:
    """Return a deadline, often too short; never none, that nothing hangs for ever."""
    return chance.random() * 0.03 if chance.random() < 0.2 else 10.0


def _given(chance: random.Random) -> dict[str, Any]:
    """Return what a call is given besides its requests."""
    if chance.random() < 0.3:
        return {"timeout": _timeout(chance), "metadata": ((PRIORITY_KEY, chance.choice(RANKS)),)}
    return {"timeout": _timeout(chance)}


def _call(client: Any, kind: RpcKind, chance: random.Random) -> None:
    method = getattr(client.channel, kind)(kind.path)
    requests, whim = _requests(chance), choose(chance, WHIMS)
    request = iter(requests) if kind.streams_requests else requests[0]
    style = chance.choice(client.styles(kind))
    match style:
        case Style.CALL:
            method(request, **_given(chance))
        case Style.WITH_CALL:
            method.with_call(request, **_given(chance))
        case Style.FUTURE:
            _end(method.future(request, **_given(chance)), whim)
        case _:
            stream = method(request, **_given(chance))
            # Perhaps while a message is on its way.
            for number, _ in enumerate(stream):
                if number == 0 and whim == "cancel":
                    CALLERS.submit(stream.cancel)
                elif number == 0 and whim == "walk away":
                    return


def _end(future: Any, whim: str) -> None:
    if whim == "cancel":
        future.cancel()
    if whim != "walk away":
        future.result(10.0)


async def _call_async(client: Any, kind: RpcKind, chance: random.Random) -> None:
    method = getattr(client.channel, kind)(kind.path)
    requests, whim = _requests(chance), choose(chance, WHIMS)
    # With interceptors, gRPC forgets a task that waits for the next write to a call that is over.
    styles = (Style.ITERATE,) if client.channel._unary_unary_interceptors else client.styles(kind)
    style, given = chance.choice(styles), _given(chance)
    if not kind.streams_requests:
        call = method(requests[0], **given)
    elif style is Style.ITERATE:
        call = method(_async(requests), **given)
    else:
        call = method(**given)
        await _write(call, requests)
    if whim == "cancel":
        asyncio.get_running_loop().call_later(chance.random() * _LINGER, call.cancel)
    if not kind.streams_responses:
        if whim != "walk away":
            await call
        return
    if style is Style.READ_WRITE:
        while await call.read() is not grpc.aio.EOF and whim != "walk away":
            pass
        return
    async for _ in call:
        if whim == "walk away":
            return


async def _write(call: Any, requests: list[bytes]) -> None:
    """Write requests one by one, for as long as the call goes on.

    gRPC has two ways of saying that it does not.
    """
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.InternalError):
        for request in requests:
            await call.write(request)
        await call.done_writing()


async def _async(requests: Iterable[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


def _ending(order: bytes) -> tuple[StatusCode, tuple[tuple[str, str], ...]]:
    """Return how a handler is to end."""
    if order == b"busy":
        return StatusCode.RESOURCE_EXHAUSTED, (("grpc-retry-pushback-ms", "1"),)
    return (StatusCode.UNAVAILABLE if order == b"down" else StatusCode.OK), ()


def plain(kind: RpcKind) -> Any:
    """Return a handler that does as it is told, as a plain function."""

    def stream(request: Any, context: Any) -> Iterator[bytes]:
        gone = threading.Event()
        context.add_callback(gone.set)
        order = b"answer"
        for order in request if kind.streams_requests else (request,):
            if order == b"linger":
                gone.wait(_LINGER)
        for number in range(3 if kind.streams_responses else 0):
            yield b"%d" % number
        code, trailing = _ending(order)
        if code is not StatusCode.OK:
            context.set_trailing_metadata(trailing)
            context.abort(code, "as told")
        yield b"the end"

    def unary(request: Any, context: Any) -> bytes:
        return b"".join(stream(request, context))

    return stream if kind.streams_responses else unary


def coroutine(kind: RpcKind) -> Any:
    """Return the same as a coroutine function or an async generator."""

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        order = b"answer"
        async for order in request if kind.streams_requests else _async([request]):
            if order == b"linger":
                await asyncio.sleep(_LINGER)
        for number in range(3 if kind.streams_responses else 0):
            yield b"%d" % number
        code, trailing = _ending(order)
        if code is not StatusCode.OK:
            await context.abort(code, "as told", trailing)
        yield b"the end"

    async def unary(request: Any, context: Any) -> bytes:
        async with contextlib.aclosing(stream(request, context)) as messages:
            return b"".join([message async for message in messages])

    return stream if kind.streams_responses else unary


def mixed(kind: RpcKind) -> Any:
    """Return either, as an asyncio server can have both.

    In gRPC, the thread of a plain generator there waits for ever once its client has gone.
    """
    return coroutine(kind) if kind.streams_responses else plain(kind)


def service(make: Callable[[RpcKind], Any]) -> grpc.GenericRpcHandler:
    """Return a service of handlers of every kind."""
    return grpc.method_handlers_generic_handler(
        "test.Scripted",
        {kind: getattr(grpc, f"{kind}_rpc_method_handler")(make(kind)) for kind in RpcKind},
    )


def tinker(seed: int, stacks: list[Any], stop: threading.Event) -> int:
    """Change parameters while calls run, until told to stop; returns how often."""
    chance = random.Random(seed)
    values: dict[str, list[Any]] = {
        "bulkhead/max_concurrent": [1, 16, 64, 64],
        "bulkhead/max_queue": [0, 4, 64],
        "bulkhead/max_wait": [0.0, 0.005, 0.1],
        "bulkhead/order": ["fifo", "lifo", "priority"],
        "circuit_breaker/mode": ["auto"] * 8 + ["open", "closed", "disabled"],
        "circuit_breaker/minimum_calls": [8, 40],
        "circuit_breaker/half_open_concurrency": [1, 3],
        "hedge/delay": [0.001, 0.01, 1.0],
        "hedge/max_hedges": [0, 1, 2],
        "fault/share": [0.0, 0.0, 0.05],
        "fault/after": [None, 1, 2],
        "rate_limit/rate": [500.0, 50_000.0, 50_000.0],
        "rate_limit/max_wait": [0.0, 0.01],
        "retry/max_attempts": [1, 2, 5],
        "timeout/seconds": [0.01, 5.0, 5.0],
        "timeout/idle": [None, 0.005, 5.0],
    }
    for count in itertools.count():
        if stop.wait(0.005):
            return count
        parameters = chance.choice(stacks).parameters
        path = chance.choice([path for path in values if path in parameters])
        parameters[path].set(chance.choice(values[path]), by="tinker")
    raise AssertionError
