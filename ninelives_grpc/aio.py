"""The entry points for asyncio: the same names as in `ninelives_grpc`, for `grpc.aio`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.environment import disabled
from ninelives_grpc.interceptors.aio_client import interceptors
from ninelives_grpc.interceptors.aio_server import AioServerInterceptor
from ninelives_grpc.protection import wrap_channel
from ninelives_grpc.registry import Registry, default_registry
from ninelives_grpc.routes import Routes, client_routes, server_routes

if TYPE_CHECKING:
    from grpc import aio

    from ninelives_grpc.stacks.stack import Stack

__all__ = ["client_interceptors", "run_loops", "server_interceptor", "wrap_channel"]


def client_interceptors(
    protection: Stack | Routes, *, target: str = ""
) -> list[aio.ClientInterceptor]:
    """Return interceptors for `grpc.aio.insecure_channel(target, interceptors=…)`.

    Args:
        protection: A stack for all methods, or `Routes` from methods to stacks.
        target: Where the channel leads, which an interceptor can not see: calls are counted by it.

    Raises:
        ConfigError: A stack has a policy that an interceptor can not carry out; says which.
    """
    return [] if disabled() else interceptors(client_routes(protection), target)


def server_interceptor(protection: Stack | Routes) -> AioServerInterceptor:
    """Return an interceptor for `grpc.aio.server(interceptors=[aio.server_interceptor(stack)])`.

    Args:
        protection: A stack for all methods but health, reflection and control, or `Routes`.

    Raises:
        ConfigError: A stack has a policy that makes no sense on a server; says which.
    """
    return AioServerInterceptor(Routes({}) if disabled() else server_routes(protection))


async def run_loops(registry: Registry | None = None) -> None:
    """Ask the feedback loops of a registry in this task, in place of a thread, until cancelled.

    It also ends when the registry stops its loops. They are not asked after that until it starts
    them again.

    Args:
        registry: Whose loops; by default those of `default_registry`.
    """
    await (default_registry if registry is None else registry).runner.run()
