"""Who issues a command, and how that is known."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from ninelives_control.tokens import TokenFile


class Role(StrEnum):
    """What an identity is there to do; rules say what that allows."""

    VIEWER = "viewer"
    """Reads."""
    OPERATOR = "operator"
    """Reads and changes."""
    AGENT = "agent"
    """Reads, and changes within bounds: a program, often one that thinks for itself."""
    ADMIN = "admin"
    """Everything."""


class Proof(StrEnum):
    """How an identity is known."""

    IN_PROCESS = "in_process"
    """It runs in the process of the control plane."""
    ANONYMOUS = "anonymous"
    """It is not, but it is on the same machine."""
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    """It has shown a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who issues a command.

    Attributes:
        name: As it stands in the audit.
        role: What it is there to do.
        proof: How it is known.
    """

    name: str
    role: Role
    proof: Proof


ANONYMOUS = Identity(name="anonymous", role=Role.VIEWER, proof=Proof.ANONYMOUS)
"""Somebody on the same machine: reads."""
APPLICATION = Identity(name="application", role=Role.ADMIN, proof=Proof.IN_PROCESS)
"""The program that the control plane runs in, which could do anything anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a transport knows of a caller.

    Attributes:
        token: The bearer token that was shown, or None.
        loopback: Whether the caller is on the same machine.
    """

    token: str | None = field(default=None, repr=False)
    loopback: bool = False


Caller = Identity | Credentials
"""An identity that needs no proof, as it is in the process, or what it has shown."""


class Authenticator:
    """Finds out who a caller is."""

    def __init__(self, tokens: TokenFile | None = None, *, anonymous: bool = False) -> None:
        """Begin.

        Args:
            tokens: The file of tokens; without one everybody on the same machine may read.
            anonymous: Whether they may read with a file as well.
        """
        self._tokens = tokens
        self._anonymous = anonymous or tokens is None

    @property
    def read_only(self) -> bool:
        """Whether nobody from outside the process can change anything, for want of tokens."""
        return self._tokens is None

    def identify(self, caller: Caller) -> Identity:
        """Return the identity of a caller.

        Raises:
            CommandError: `unauthenticated`; or `unavailable`, as the tokens cannot be read.
        """
        if isinstance(caller, Identity):
            return caller
        if caller.token is not None:
            return self._by_token(caller.token)
        if self._anonymous and caller.loopback:
            return ANONYMOUS
        if self._tokens is None:
            message = "only callers on the same machine are known without a token file"
        else:
            message = "show a token: authorization metadata or header, `Bearer TOKEN`"
        raise CommandError(Code.UNAUTHENTICATED, message)

    def _by_token(self, token: str) -> Identity:
        entry = None if self._tokens is None else self._tokens.find(token)
        if entry is None:
            message = "the token is unknown; ask for one made by `ninelives token create`"
            raise CommandError(Code.UNAUTHENTICATED, message)
        return Identity(name=entry.name, role=entry.role, proof=Proof.TOKEN)


def is_loopback(host: str) -> bool:
    """Tell whether an address or host name is one of this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def bearer(header: str | None) -> str | None:
    """Return the token of an `authorization` header; one of another kind counts as unknown."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
