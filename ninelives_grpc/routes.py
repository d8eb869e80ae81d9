"""Which stack protects which method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

EXEMPT = (
    "grpc.health.v1.Health/*",
    "grpc.reflection.v1.ServerReflection/*",
    "grpc.reflection.v1alpha.ServerReflection/*",
    "grpc.channelz.v1.Channelz/*",
    "ninelives_control.v1.ControlService/*",
)
"""Methods that a server's stack leaves alone unless `Routes` say otherwise: what operates a service
must answer when nothing else does."""


class Routes:
    """Chooses the stack for a method: by its full name, then its service, then `*`.

    Args:
        stacks: From `package.Service/Method`, `package.Service/*` or `*` to a stack, or to None for
            methods that are not to be protected.

    Raises:
        ConfigError: A pattern is none of the three; says which.
    """

    def __init__(self, stacks: Mapping[str, Stack | None]) -> None:
        """Check the patterns."""
        for pattern, stack in stacks.items():
            service, _, method = pattern.removeprefix("/").partition("/")
            plain = method == "*" or not set("*/") & set(method)
            if pattern != "*" and (not service or not method or "*" in service or not plain):
                msg = f"a route is package.Service/Method, package.Service/* or *, not {pattern!r}"
                raise ConfigError(msg, path="Routes")
            if stack is not None and not isinstance(stack, Stack):
                msg = f"leads to {stack!r}; give a Stack, or None to leave a method unprotected"
                raise ConfigError(msg, path=f"Routes[{pattern!r}]")
        self._stacks = {pattern.removeprefix("/"): stack for pattern, stack in stacks.items()}

    def __call__(self, method: str) -> Stack | None:
        """Return the stack of a method, given with or without its leading slash, or None."""
        name = method.removeprefix("/")
        service = name.partition("/")[0]
        for pattern in (name, f"{service}/*", "*"):
            if pattern in self._stacks:
                return self._stacks[pattern]
        return None

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks that methods are routed to, each once."""
        unique = {id(stack): stack for stack in self._stacks.values() if stack is not None}
        return tuple(unique.values())

    def __repr__(self) -> str:
        """Show the routes."""
        routes = {
            pattern: None if stack is None else stack.name
            for pattern, stack in self._stacks.items()
        }
        return f"Routes({routes})"


def client_routes(protection: Stack | Routes) -> Routes:
    """Return routes, from routes or from one stack for all methods."""
    return protection if isinstance(protection, Routes) else Routes({"*": protection})


def server_routes(protection: Stack | Routes) -> Routes:
    """Return routes that leave the services alone by which a server is operated."""
    if isinstance(protection, Routes):
        return protection
    return Routes({"*": protection, **dict.fromkeys(EXEMPT)})
