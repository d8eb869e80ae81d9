"""Servers, channels and stacks for the tests, and the checks that nothing is left of a call."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ninelives_grpc import Registry, Stack, wrap_channel

from . import clients, leaks, servers
from .backend import PATIENCE, Backend
from .clients import Client, LoopThread
from .handlers import plain_handlers
from .servers import Server, SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Routes
    from ninelives_grpc.stacks.algebra import Expression


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests in a loop of their own, and see that they leave no task behind."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames

    async def run() -> None:
        await function(**{name: pyfuncitem.funcargs[name] for name in names})
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while left := leaks.tasks(loop):
                await asyncio.wait(left, timeout=PATIENCE)

    asyncio.run(run())
    return True


@pytest.fixture(scope="session", autouse=True)
def _connections_of_their_own() -> Iterator[None]:
    """Keep channels apart.

    gRPC lets channels to the same address share a connection, and its back-off. Thousands of
    servers come and go in these tests, and now and then one gets the port of another that is gone.
    """
    option = ("grpc.use_local_subchannel_pool", 1)

    def apart(make: Callable[..., Any]) -> Callable[..., Any]:
        def insecure_channel(target: str, options: Any = None, *rest: Any, **more: Any) -> Any:
            return make(target, (*(options or ()), option), *rest, **more)

        return insecure_channel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc, "insecure_channel", apart(grpc.insecure_channel))
        patch.setattr(grpc.aio, "insecure_channel", apart(grpc.aio.insecure_channel))
        yield


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    """An event loop in another thread, for asyncio clients and servers that sync code drives."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """The script of the unprotected server at `target`."""
    backend = Backend()
    yield backend
    backend.release()


@pytest.fixture
def target(backend: Backend) -> Iterator[str]:
    """Address of an unprotected server that plays the script of `backend`."""
    server = SyncServer(plain_handlers(backend))
    yield server.target
    backend.release()
    server.close()


@pytest.fixture
def new_stack() -> Iterator[Callable[..., Stack]]:
    """Make stacks, and see at the end that their policies hold nothing any more."""
    made: list[Stack] = []

    def make(expression: Expression, **options: Any) -> Stack:
        stack = Stack(f"stack-{len(made)}", expression, registry=Registry(), **options)
        made.append(stack)
        return stack

    yield make
    leaks.assert_nothing_held(made)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close channels and servers at the end, last opened first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def connect(target: str, loop: LoopThread, opened: ExitStack) -> Callable[..., Client]:
    """Make a client of one of the kinds in `clients.PROTECTED`, by default of `target`."""

    def make(protected: str, stack: Stack, to: str = target) -> Client:
        client: Client = clients.PROTECTED[protected](to, stack, loop)
        opened.callback(client.close)
        return client

    return make


@pytest.fixture
def serve(loop: LoopThread, opened: ExitStack) -> Callable[..., Server]:
    """Start a server of one of the kinds in `servers.PROTECTED`."""

    def make(protected: str, backend: Backend, stack: Stack) -> Server:
        server: Server = servers.PROTECTED[protected](backend, stack, loop)
        opened.callback(server.close)
        return server

    return make


@pytest.fixture
def wrapped(target: str, opened: ExitStack) -> Callable[..., grpc.Channel]:
    """Make a wrapped sync channel, by default to `target`."""

    def make(stack: Stack | Routes, to: str = target, **options: Any) -> grpc.Channel:
        return opened.enter_context(wrap_channel(grpc.insecure_channel(to, **options), stack))

    return make


@pytest.fixture(autouse=True)
def _nothing_left(loop: LoopThread) -> Iterator[None]:
    """See that a test leaves no thread behind, nor a task in the loop of `loop`."""
    before = leaks.threads()
    yield
    leaks.assert_no_thread_left(before)
    leaks.eventually(
        lambda: not loop.call(leaks.tasks, loop.loop), lambda: loop.call(leaks.tasks, loop.loop)
    )
