"""Who issues a command, and how that is known."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_control.errors import Code, CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_control.identity.jwt import JwtVerifier
    from ninelives_control.identity.tokens import TokenFile

_DOTS_OF_A_JWT = 2


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
    JWT = "jwt"
    """It has shown a token that an identity provider signed."""
    CERTIFICATE = "certificate"
    """It has shown a client certificate."""
    USER = "user"
    """The kernel says under which user it runs."""


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
PEER = "uid:"
"""What the names of those begin with that are known by their user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a transport knows of a caller.

    Attributes:
        token: The bearer token that was shown, or None.
        loopback: Whether the caller is on the same machine.
        certificate: The client certificate, in DER, that was shown and is of a CA that is believed;
            or None.
        uid: The user that the caller runs under on the same machine, if the kernel says so.
        peer: The address of the caller, for the audit, such as `127.0.0.1:4711` or `unix`.
    """

    token: str | None = field(default=None, repr=False)
    loopback: bool = False
    certificate: bytes | None = field(default=None, repr=False)
    uid: int | None = None
    peer: str = ""


Caller = Identity | Credentials
"""An identity that needs no proof, as it is in the process, or what it has shown."""


class Authenticator:
    """Finds out who a caller is: by its token, or else by its certificate, or else by its user.

    Args:
        tokens: The file of tokens.
        jwt: Checks tokens of an identity provider.
        certificates: The role for each name in a client certificate.
        users: The role for each user of this machine who asks at a Unix socket.
        anonymous: Whether everybody on the same machine may read; so it is anyway without tokens
            and certificates.
    """

    def __init__(
        self,
        tokens: TokenFile | None = None,
        *,
        jwt: JwtVerifier | None = None,
        certificates: Mapping[str, Role] | None = None,
        users: Mapping[int, Role] | None = None,
        anonymous: bool = False,
    ) -> None:
        """Hold what callers are known by."""
        self._tokens = tokens
        self._jwt = jwt
        self._certificates = certificates or {}
        self._users = users or {}
        self._takes_tokens = tokens is not None or jwt is not None
        self._anonymous = anonymous or not (self._takes_tokens or self._certificates)

    @property
    def read_only(self) -> bool:
        """Whether nobody from outside the process can change anything, as nobody is known."""
        return not (self._takes_tokens or self._certificates or self._users)

    def identify(self, caller: Caller) -> Identity:
        """Return the identity of a caller.

        Raises:
            CommandError: `unauthenticated`; or `permission_denied`: it is known, but has no role;
                or `unavailable`, as the tokens cannot be read.
        """
        if isinstance(caller, Identity):
            return caller
        if caller.token is not None:
            return self._by_token(caller.token)
        if caller.certificate is not None and self._certificates:
            return self._by_certificate(caller.certificate)
        if caller.uid is not None and caller.uid in self._users:
            return self._by_user(caller.uid, self._users[caller.uid])
        if self._anonymous and caller.loopback:
            return ANONYMOUS if caller.uid is None else self._by_user(caller.uid, ANONYMOUS.role)
        raise CommandError(Code.UNAUTHENTICATED, self._wanted())

    def _by_token(self, token: str) -> Identity:
        if self._jwt is not None and token.count(".") == _DOTS_OF_A_JWT:
            return self._jwt.identify(token)
        entry = None if self._tokens is None else self._tokens.find(token)
        if entry is None:
            remedy = "ask for one made by `ninelives token create`"
            if self._tokens is None and self._jwt is not None:
                remedy = "ask the identity provider for one"
            raise CommandError(Code.UNAUTHENTICATED, f"the token is unknown; {remedy}")
        return Identity(name=entry.name, role=entry.role, proof=Proof.TOKEN)

    def _by_certificate(self, certificate: bytes) -> Identity:
        # A third of what the control plane takes to import, for those who use certificates.
        from ninelives_control.identity.certificates import names_of  # noqa: PLC0415

        names = names_of(certificate)
        for name in names:
            if name in self._certificates:
                return Identity(name=name, role=self._certificates[name], proof=Proof.CERTIFICATE)
        called = " or ".join(names) or "without a name"
        message = f"a certificate {called} has no role; the control plane gives it one by Tls.roles"
        raise CommandError(Code.UNAUTHENTICATED, message)

    @staticmethod
    def _by_user(uid: int, role: Role) -> Identity:
        return Identity(name=f"{PEER}{uid}", role=role, proof=Proof.USER)

    def _wanted(self) -> str:
        if self._takes_tokens:
            return "show a token: authorization metadata or header, `Bearer TOKEN`"
        if self._certificates:
            return "show a client certificate"
        return "only callers on the same machine are known without a token file"


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


def host_in(peer: str) -> str:
    """Return the address of a peer without its port; what has no port stays as it is."""
    return peer.rpartition(":")[0] or peer


def bearer(*headers: str) -> str | None:
    """Return the token of an `authorization` header, of which there is one; or None without.

    One of another kind counts as unknown, and so do several: a proxy may have looked at another.
    """
    if not headers:
        return None
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and len(headers) == 1 else ""
