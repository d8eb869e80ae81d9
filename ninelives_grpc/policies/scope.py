"""Whom a policy keeps apart: all together, or one state a method, target, caller or tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ninelives_grpc.call import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope = str | Callable[[Call], str]
"""`stack`, `method`, `target`, `peer`, `metadata:NAME`, or a function from the call to a key."""

STACK = "stack"
_PEER = "peer"
_METADATA = "metadata:"
ALLOWED = "stack, method, target, peer, metadata:NAME, or a function of the call"


def scope_problem(scope: Scope, name: str = "scope") -> str:
    """Say what is wrong with a scope, or return ""."""
    if callable(scope):
        return ""
    known = isinstance(scope, str) and (
        scope in {STACK, *_BY_WORD} or (scope.startswith(_METADATA) and scope != _METADATA)
    )
    return "" if known else f"{name} must be {ALLOWED}, not {scope!r}"


def key_function(scope: Scope) -> Callable[[Call], str] | None:
    """Return the function that finds the key of a call, or None when there is only one key."""
    if callable(scope):
        return scope
    if scope == STACK:
        return None
    if scope in _BY_WORD:
        return _BY_WORD[scope]
    return _by_metadata(scope.removeprefix(_METADATA).lower())


def known_on_arrival(scope: Scope) -> bool:
    """Tell whether a key can be found before the request is read and the peer is known."""
    return not callable(scope) and scope != _PEER


def _by_metadata(name: str) -> Callable[[Call], str]:
    def find(call: Call) -> str:
        for key, value in call.metadata or ():
            if key == name:
                return value if isinstance(value, str) else value.hex()
        return ""

    return find


def _by_method(call: Call) -> str:
    return call.method.name


def _by_target(call: Call) -> str:
    return call.method.target


def _by_peer(call: Call) -> str:
    """Return the caller's host, without the port that differs with every connection."""
    peer = call.peer() if call.peer is not None else ""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer


_BY_WORD: Mapping[str, Callable[[Call], str]] = {
    "method": _by_method,
    "target": _by_target,
    _PEER: _by_peer,
}
