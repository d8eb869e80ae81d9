"""The entry points: how a stack, or routes to several, is attached to sync channels and servers.

With `NINELIVES_DISABLED=1` in the environment they attach nothing, and calls pass untouched. That
is asked when a channel is wrapped or an interceptor made, and not again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import grpc

from ninelives_grpc.environment import disabled
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.interceptors.aio_channel import ProtectedAioChannel
from ninelives_grpc.interceptors.channel import ProtectedChannel
from ninelives_grpc.interceptors.client import ClientInterceptor
from ninelives_grpc.interceptors.server import ServerInterceptor
from ninelives_grpc.routes import Routes, client_routes, server_routes

if TYPE_CHECKING:
    from ninelives_grpc.stacks.stack import Stack


def client_interceptors(protection: Stack | Routes, *, target: str = "") -> list[ClientInterceptor]:
    """Return interceptors for `grpc.intercept_channel(channel, *client_interceptors(stack))`.

    Args:
        protection: A stack for all methods, or `Routes` from methods to stacks.
        target: Where the channel leads, which an interceptor can not see: calls are counted by it.

    Raises:
        ConfigError: A stack has a policy that an interceptor can not carry out; says which.
    """
    return [] if disabled() else [ClientInterceptor(client_routes(protection), target)]


def server_interceptor(protection: Stack | Routes) -> ServerInterceptor:
    """Return an interceptor for `grpc.server(pool, interceptors=[server_interceptor(stack)])`.

    Args:
        protection: A stack for all methods but health, reflection and control, or `Routes`.

    Raises:
        ConfigError: A stack has a policy that makes no sense on a server; says which.
    """
    return ServerInterceptor(Routes({}) if disabled() else server_routes(protection))


@overload
def wrap_channel(
    channel: grpc.Channel, protection: Stack | Routes, *, target: str = ""
) -> grpc.Channel: ...


@overload
def wrap_channel(
    channel: grpc.aio.Channel, protection: Stack | Routes, *, target: str = ""
) -> grpc.aio.Channel: ...


def wrap_channel(
    channel: grpc.Channel | grpc.aio.Channel, protection: Stack | Routes, *, target: str = ""
) -> grpc.Channel | grpc.aio.Channel:
    """Return a channel, sync or asyncio like the given one, whose calls pass through a stack.

    It is faster than interceptors, keeps cancellation and `close` as on a bare channel, and can
    send calls to another `Target`. Closing either channel closes both. With `NINELIVES_DISABLED=1`
    in the environment it is the given channel itself.

    Args:
        channel: The channel to protect.
        protection: A stack for all methods, or `Routes` from methods to stacks.
        target: Where the channel leads, which gRPC does not tell: calls are counted by it.

    Raises:
        ConfigError: It is not a channel.
    """
    if not isinstance(channel, grpc.Channel | grpc.aio.Channel):
        msg = f"must be a grpc.Channel or a grpc.aio.Channel, not {channel!r}"
        raise ConfigError(msg, path="wrap_channel: channel")
    if disabled():
        return channel
    routes = client_routes(protection)
    if isinstance(channel, grpc.aio.Channel):
        return ProtectedAioChannel(channel, routes, target)
    return ProtectedChannel(channel, routes, target)
