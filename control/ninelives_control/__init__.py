"""The control plane of ninelives-grpc: one command table behind gRPC, GraphQL and MCP.

with ControlPlane(registry) as plane:
    plane.execute("set_parameter", path="payments/retry/max_attempts", value=5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninelives_control.command import Command, CommandTable, Context, Effect, Target
    from ninelives_control.errors import AddressError, AuditError, Code, CommandError
    from ninelives_control.identity.identity import Identity, Role
    from ninelives_control.identity.jwt import Jwt
    from ninelives_control.limits import Limits
    from ninelives_control.model import Arguments, NamedValue, ParameterValue, Result
    from ninelives_control.server import ControlPlane
    from ninelives_control.tls import Tls
    from ninelives_control.transports.lines.lines import JsonLines

__all__ = [
    "AddressError",
    "Arguments",
    "AuditError",
    "Code",
    "Command",
    "CommandError",
    "CommandTable",
    "Context",
    "ControlPlane",
    "Effect",
    "Identity",
    "JsonLines",
    "Jwt",
    "Limits",
    "NamedValue",
    "ParameterValue",
    "Result",
    "Role",
    "Target",
    "Tls",
]

_HOMES = {
    "command": ("Command", "CommandTable", "Context", "Effect", "Target"),
    "errors": ("AddressError", "AuditError", "Code", "CommandError"),
    "identity.identity": ("Identity", "Role"),
    "identity.jwt": ("Jwt",),
    "limits": ("Limits",),
    "model": ("Arguments", "NamedValue", "ParameterValue", "Result"),
    "server": ("ControlPlane",),
    "tls": ("Tls",),
    "transports.lines.lines": ("JsonLines",),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line starts without all of them."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
