"""Whom a policy keeps apart: everybody together, or one state for each method, caller or tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ninelives_grpc.call import Call
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope = str | Callable[[Call], str]
"""`stack`, `method`, `peer`, `metadata:NAME`, or a function from the call to a key."""

STACK = "stack"
ALLOWED = "stack, method, peer, metadata:NAME, or a function of the call"


def key_function(scope: Scope, path: str) -> Callable[[Call], str] | None:
    """Return the function that finds the key of a call, or None when there is only one key.

    Raises:
        ConfigError: The scope is none of the allowed words.
    """
    if callable(scope):
        return scope
    if scope == STACK:
        return None
    word, _, name = scope.partition(":")
    if word == "metadata" and name:
        return _by_metadata(name.lower())
    if scope in _BY_WORD:
        return _BY_WORD[scope]
    msg = f"must be {ALLOWED}, not {scope!r}"
    raise ConfigError(msg, path=path)


def _by_metadata(name: str) -> Callable[[Call], str]:
    def find(call: Call) -> str:
        for key, value in call.metadata or ():
            if key == name:
                return value if isinstance(value, str) else value.hex()
        return ""

    return find


def _by_method(call: Call) -> str:
    return call.method.name


def _by_peer(call: Call) -> str:
    """Return the caller's host, without the port that differs with every connection."""
    peer = call.peer() if call.peer is not None else ""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer


_BY_WORD: Mapping[str, Callable[[Call], str]] = {"method": _by_method, "peer": _by_peer}
