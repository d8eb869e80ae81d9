"""Thousands of calls that end in every way there is, at once, and nothing that is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    Fault,
    Hedge,
    RateLimit,
    Registry,
    Respond,
    Retry,
    Routes,
    Stack,
)
from ninelives_grpc import Timeout as Limit

from . import clients, crowd, leaks, servers
from .clients import AioClient
from .crowd import Crowd, tinker

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.stacks.algebra import Expression

    from .clients import Client, LoopThread
    from .servers import Server

CALLS = 10_000
THREADS, TASKS = 6, 24
RESTARTS = 6
SERVERS = {"aio": crowd.coroutine, "sync": crowd.plain, "mixed": crowd.mixed}


def gates() -> Expression:
    breaker = CircuitBreaker(open_duration=0.01, max_open_duration=0.05)
    bulkhead = Bulkhead(16, max_queue=16, max_wait=0.1, fair_by="method")
    return breaker + RateLimit(5_000, 100, max_wait=0.01) + bulkhead + Fault(code="UNAVAILABLE")


def local(call: Call) -> object:
    return [b"local"] if call.method.name.endswith("stream") else b"local"


def retry() -> Retry:
    return Retry(3, initial_backoff=0.001, max_backoff=0.01)


def expressions() -> dict[str, Expression]:
    """Return what protects clients; the last one is for unary responses only."""
    return {
        "gates": Limit(5.0) + gates(),
        "retry": Limit(5.0) + retry() + gates(),
        "fallback": (Limit(5.0) + retry() + gates()) | Respond(local),
        "hedge": Limit(5.0) + Hedge(0.005, max_hedges=2, idempotent=True) + gates(),
        "race": Limit(5.0) + gates() + (retry() & Limit(1.0)),
    }


def files() -> Counter[str]:
    """Return how many file descriptors of each kind are open."""
    kinds: Counter[str] = Counter()
    for file in Path("/proc/self/fd").iterdir():
        # The one by which this folder is read is gone by now.
        with contextlib.suppress(FileNotFoundError):
            kinds[str(file.readlink()).partition("[")[0]] += 1
    return kinds


class Town:
    """Two servers, clients of every kind for them, and everything that may be left at the end."""

    def __init__(self, loop: LoopThread, opened: ExitStack) -> None:
        self.stacks: list[Stack] = []
        self.clients: list[tuple[Client, bool]] = []
        self._loop = loop
        self._servers: dict[str, Server] = {}
        self._guards = {
            kind: self._new(f"{kind} server", Limit(5.0) + AdmissionQueue() + gates())
            for kind in SERVERS
        }
        opened.callback(self._close)
        for kind in self._guards:
            self._start(kind, 0)
        for protected, connect in clients.PROTECTED.items():
            for name, expression in expressions().items():
                stack = self._new(f"{protected} {name}", expression)
                for server in tuple(self._servers.values()):
                    client = connect(server.target, Routes({"test.Scripted/*": stack}), loop)
                    opened.callback(client.close)
                    self.clients.append((client, name == "race"))

    def restart(self, kind: str) -> None:
        """Stop a server in the middle of its calls, and start it again on the same port."""
        port = int(self._servers[kind].target.rpartition(":")[2])
        self._servers.pop(kind).close()
        self._start(kind, port)

    def _new(self, name: str, expression: Expression) -> Stack:
        stack = Stack(name, expression, registry=Registry())
        self.stacks.append(stack)
        return stack

    def _start(self, kind: str, port: int) -> None:
        guard: Any = self._guards[kind]
        how: Any = {"protection": guard, "port": port}
        handlers = crowd.service(SERVERS[kind])
        self._servers[kind] = (
            servers.SyncServer(handlers, **how)
            if kind == "sync"
            else servers.AioServer(self._loop, handlers, **how)
        )

    def _close(self) -> None:
        for server in self._servers.values():
            server.close()


def live(loop: LoopThread, seed: int, calls: int, restarts: int) -> tuple[list[Stack], Crowd]:
    """Let a crowd make so many calls, while servers restart and parameters change."""
    stop = threading.Event()
    with ExitStack() as opened:
        town = Town(loop, opened)
        people = Crowd(seed, town.clients, calls)
        pool = opened.enter_context(ThreadPoolExecutor(THREADS + 1, thread_name_prefix="stress"))
        opened.callback(stop.set)
        changes = pool.submit(tinker, seed, town.stacks, stop)
        work = [pool.submit(people.work, number) for number in range(THREADS)]
        work += [
            asyncio.run_coroutine_threadsafe(people.work_async(THREADS + number), loop.loop)
            for number in range(TASKS)
        ]
        for number in range(restarts):
            people.wait_for((number + 1) * calls // (restarts + 1))
            town.restart(list(SERVERS)[number % len(SERVERS)])
        for done in work:
            done.result(60.0)
        stop.set()
        assert changes.result(10.0) >= restarts
    people.clients.clear()  # channels keep files open for as long as somebody holds them
    return town.stacks, people


@pytest.mark.timeout(120)
def test_nothing_is_left_of_ten_thousand_calls_that_end_in_every_way(
    loop: LoopThread, opened: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    seed = int(os.environ.get("NINELIVES_STRESS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"NINELIVES_STRESS_SEED={seed}")  # noqa: T201 - shown when it fails
    # gRPC has a queue for asyncio, with files of its own, while there is anything to use it.
    opened.callback(AioClient(loop, loop.call(grpc.aio.insecure_channel, "127.0.0.1:1")).close)
    live(loop, seed, 300, 2)
    leaks.collect()
    threads, open_files = leaks.threads(), files()

    stacks, people = live(loop, seed, CALLS, RESTARTS)

    assert people.made == CALLS
    assert people.surprises == []
    leaks.collect()
    leaks.assert_nothing_held(stacks)
    leaks.assert_no_thread_left(threads)
    leaks.eventually(lambda: not loop.call(leaks.tasks, loop.loop), str)
    leaks.eventually(lambda: files() <= open_files, lambda: files() - open_files)
    assert [log.getMessage() for log in caplog.records if log.name == "ninelives_grpc"] == []
    ends = sum((leaks.results(stack) for stack in stacks), Counter())
    assert {result for _, result in ends} == {"success", "failure", "ignored", "refused"}
