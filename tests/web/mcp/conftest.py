import asyncio
import functools
import gc
import inspect
import threading

import pytest

from tests.control import added

from . import clients


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run coroutine tests in a loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    for thread in threading.enumerate():
        # Those that read pipes are told to end with their loop, and nobody waits for them.
        loop = getattr(thread, "loop", None)
        if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed():
            thread.join(clients.PATIENCE)
    plane = pyfuncitem.funcargs.get("plane")
    if plane is not None and not plane.grpc_port:
        # It was stopped: gRPC's thread ends with the last call, which its error holds in a cycle.
        gc.collect()
        for thread in threading.enumerate():
            if "_poll_wrapper" in thread.name:
                thread.join(clients.PATIENCE)
    return True


@pytest.fixture(scope="package", autouse=True)
def frozen():
    """Leave out what was imported when planes look for garbage as they stop: that is slow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def address(plane):
    """The address for gRPC, which the bridge asks at."""
    return f"127.0.0.1:{plane.grpc_port}"


@pytest.fixture
def held(plane):
    """A command `hold`: an event that says that it runs, and one that ends it."""
    running, end, hold = added.blocking()
    plane.commands.add(hold)
    yield running, end
    end.set()


@pytest.fixture(params=["http auto", "http legacy", "stdio legacy"])
def link(request):
    """How a client reaches the control plane, and the era of the protocol that it prefers."""
    return request.param.split()


@pytest.fixture
def way(link):
    return link[0]


@pytest.fixture
def mode(link):
    return link[1]


@pytest.fixture
def connect(way, mode, url, address, tokens):
    """Connect a client that has the token of a role, an unknown one, or none."""

    def start(who, **options):
        make = functools.partial(
            *{
                "http": (clients.over_http, url),
                "stdio": (clients.over_pipes, address),
            }[way]
        )
        token = {"nobody": None, "stranger": "ninelives_x"}.get(who, tokens.get(who))
        return make(token, mode=mode, **options)

    return start
